//! `restore` under every fault, into files, into exports, into a Datastore and into the emulator.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kindpack::cli::{ExitCode, Failure};
use kindpack::model::{LEASE_KIND, Sha256};
use kindpack::plan::{ArchiveRef, Choices, Environment, Plan, plan};
use kindpack::progress::NoProgress;
use kindpack::restore::journal::file::JournalFile;
use kindpack::restore::{Check, RestoreOptions, RestoreRequest, restore};
use kindpack::targets::{CommitTarget, DirTarget, NdjsonTarget, Target};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::extract::open_archive;
use super::stage::{Place, archive, block_on, temporary_folder, workers};
use super::{Case, Ended, Scene, every_fault, pairs_of_faults, run, undisturbed};
use crate::datastore::fixture::{PATIENT, PROJECT, target};
use crate::support::copy_folder;
use crate::support::datastore_server::DatastoreServer;
use crate::support::emulator::{Emulator, emulator};
use crate::support::faults::target::FaultTarget;
use crate::support::faults::{Deed, Faults, Spot};

/// What a target holds, by names.
type Contents = BTreeMap<String, Vec<u8>>;

/// A place that is restored into.
trait Destination: Send + Sync + Sized {
    const CHECK: Check;
    const HAS_VIRTUAL_TIME: bool;

    fn new() -> Self;
    fn copy(&self) -> Self;

    /// How plans name it.
    fn name(&self) -> String;
    fn target(&self) -> Arc<dyn Target>;
    fn contents(&self) -> Contents;

    /// What a restore brings, once it is known.
    fn expected() -> &'static OnceLock<Contents>;

    /// The part of the contents that appears in one act with others.
    fn unit(name: &str) -> &str {
        name
    }
}

/// A file of entities for each kind.
struct Ndjson(Place);

impl Destination for Ndjson {
    const CHECK: Check = Check::Counts;
    const HAS_VIRTUAL_TIME: bool = true;

    fn new() -> Self {
        Ndjson(Place::new(false))
    }

    fn copy(&self) -> Self {
        Ndjson(self.0.copy())
    }

    fn name(&self) -> String {
        "ndjson:out".to_owned()
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(NdjsonTarget::new(self.0.path()))
    }

    fn expected() -> &'static OnceLock<Contents> {
        static EXPECTED: OnceLock<Contents> = OnceLock::new();
        &EXPECTED
    }

    fn contents(&self) -> Contents {
        let objects = self.0.objects().into_iter();
        objects.map(|(name, it)| (name, it.to_vec())).collect()
    }
}

/// A folder of an export for each kind.
struct Dir(Place);

impl Destination for Dir {
    const CHECK: Check = Check::Counts;
    const HAS_VIRTUAL_TIME: bool = true;

    fn new() -> Self {
        Dir(Place::new(false))
    }

    fn copy(&self) -> Self {
        Dir(self.0.copy())
    }

    fn name(&self) -> String {
        "dir:out".to_owned()
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(DirTarget::new(self.0.path()))
    }

    fn expected() -> &'static OnceLock<Contents> {
        static EXPECTED: OnceLock<Contents> = OnceLock::new();
        &EXPECTED
    }

    fn contents(&self) -> Contents {
        let objects = self.0.objects().into_iter();
        objects.map(|(name, it)| (name, it.to_vec())).collect()
    }

    fn unit(name: &str) -> &str {
        let is_export = |(slash, _): &(usize, &str)| name[..*slash].contains('T');
        let mut folders = name.match_indices('/');
        let end = folders
            .find(is_export)
            .map_or(name.len(), |(slash, _)| slash);
        &name[..end]
    }
}

/// A database of the stand-in for the service.
struct Service(DatastoreServer);

impl Destination for Service {
    const CHECK: Check = Check::Entities;
    const HAS_VIRTUAL_TIME: bool = false;

    fn new() -> Self {
        Service(DatastoreServer::start(PROJECT, &[""]))
    }

    fn copy(&self) -> Self {
        let copy = Service::new();
        let entities = self.0.entities("");
        entities.iter().for_each(|entity| copy.0.put("", entity));
        copy
    }

    fn name(&self) -> String {
        format!("datastore:{PROJECT}")
    }

    fn target(&self) -> Arc<dyn Target> {
        Arc::new(target(&self.0, "", PATIENT))
    }

    fn expected() -> &'static OnceLock<Contents> {
        static EXPECTED: OnceLock<Contents> = OnceLock::new();
        &EXPECTED
    }

    fn contents(&self) -> Contents {
        let entities = self.0.entities("").into_iter();
        let entities = entities.map(|entity| (entity["key"]["path"].to_string(), entity));
        entities
            .map(|(key, it)| (key, it.to_string().into_bytes()))
            .collect()
    }
}

/// A project of Google's emulator.
struct EmulatorProject {
    emulator: &'static Emulator,
    project: String,
}

impl EmulatorProject {
    fn of(emulator: &'static Emulator) -> Self {
        let project = emulator.fresh_project();
        EmulatorProject { emulator, project }
    }
}

impl Destination for EmulatorProject {
    const CHECK: Check = Check::Entities;
    const HAS_VIRTUAL_TIME: bool = false;

    fn new() -> Self {
        EmulatorProject::of(emulator(IN_EMULATOR).expect("the test has found it"))
    }

    fn copy(&self) -> Self {
        let copy = EmulatorProject::of(self.emulator);
        let entities = json!(self.emulator.everything(&self.project)).to_string();
        let entities = entities.replace(&self.project, &copy.project);
        let entities: Vec<Value> = serde_json::from_str(&entities).unwrap();
        self.emulator.upsert(&copy.project, &entities);
        copy
    }

    fn name(&self) -> String {
        self.emulator.target(&self.project)
    }

    fn target(&self) -> Arc<dyn Target> {
        let target = CommitTarget::emulator(&self.emulator.host, &self.project, PATIENT.retry);
        Arc::new(target.unwrap())
    }

    fn expected() -> &'static OnceLock<Contents> {
        static EXPECTED: OnceLock<Contents> = OnceLock::new();
        &EXPECTED
    }

    fn contents(&self) -> Contents {
        // Each scene has a project of its own.
        let entities = self.emulator.everything(&self.project).into_iter();
        entities
            .map(|entity| {
                let key = entity["key"]["path"].to_string();
                (
                    key,
                    entity
                        .to_string()
                        .replace(&self.project, PROJECT)
                        .into_bytes(),
                )
            })
            .collect()
    }
}

/// A restore of all kinds of the archive.
struct Restore<D> {
    destination: D,
    folder: TempDir,
    plan: Plan,
    archive_ref: ArchiveRef,
}

impl<D: Destination> Restore<D> {
    fn at(destination: D) -> Self {
        archive();
        let archive_ref = ArchiveRef {
            location: "set.zip".to_owned(),
            sha256: Sha256([7; 32]),
            generation: None,
        };
        let choices = Choices::new(destination.name().parse().unwrap());
        let opened = block_on(open_archive(false, &Faults::default())).unwrap();
        let environment = Environment::default();
        let plan = plan(opened.manifest(), &archive_ref, &choices, &environment);
        Restore {
            destination,
            folder: temporary_folder(),
            plan: plan.unwrap(),
            archive_ref,
        }
    }

    fn journal(&self) -> std::path::PathBuf {
        self.folder.path().join("journal")
    }

    async fn restore(&self, faults: &Faults, stop: CancellationToken) -> Result<(), Failure> {
        let archive = open_archive(false, faults).await?;
        let mut journal = JournalFile::open(&self.journal())?;
        let options = RestoreOptions {
            check: D::CHECK,
            lock_owner: "the tests".to_owned(),
            stop,
            ..RestoreOptions::default()
        };
        let (workers, environment) = (workers(), Environment::default());
        let request = RestoreRequest {
            plan: &self.plan,
            checked: None,
            archive: &archive,
            archive_ref: &self.archive_ref,
            environment: &environment,
            target: FaultTarget::wrap(self.destination.target(), faults),
            import: None,
            companions: None,
            redact_key: None,
            journal: &mut journal,
            options: &options,
            workers: &workers,
        };
        restore(request, &NoProgress).await.outcome?;
        Ok(())
    }

    /// What a restore to which nothing happens brings.
    fn expected() -> &'static Contents {
        D::expected().get_or_init(|| {
            let (scene, faults) = (Self::at(D::new()), Faults::default());
            block_on(scene.restore(&faults, CancellationToken::new())).unwrap();
            scene.destination.contents()
        })
    }

    /// Steps that the journal says are done.
    fn done(&self) -> u64 {
        JournalFile::read(&self.journal()).unwrap().done()
    }
}

/// The units of contents that are whole.
fn whole_units<'a, D: Destination>(found: &Contents, expected: &'a Contents) -> Vec<&'a str> {
    let mut units: Vec<&str> = expected.keys().map(|name| D::unit(name)).collect();
    units.dedup();
    let is_whole = |unit: &&str| {
        let mut names = expected.iter().filter(|(name, _)| D::unit(name) == *unit);
        names.all(|(name, it)| found.get(name) == Some(it))
    };
    units.retain(is_whole);
    units
}

impl<D: Destination> Scene for Restore<D> {
    const HAS_VIRTUAL_TIME: bool = D::HAS_VIRTUAL_TIME;

    fn new() -> Self {
        Self::at(D::new())
    }

    fn applies(spot: Spot, _: Deed) -> bool {
        // How the archive is read is the same for every target.
        D::HAS_VIRTUAL_TIME || spot.place != "archive"
    }

    fn copy(&self) -> Self {
        let copy = Self::at(self.destination.copy());
        copy_folder(self.folder.path(), copy.folder.path());
        copy
    }

    async fn run(&self, faults: &Faults) -> Ended {
        let restored = self.restore(faults, CancellationToken::new());
        Ended::new(faults.run(restored).await)
    }

    fn flaws(&self, ended: &Ended) -> Vec<String> {
        let expected = Self::expected();
        let mut found = self.destination.contents();
        if *ended != Ended::Done {
            // Who was killed could not take its mark away.
            found.retain(|name, _| !name.contains(LEASE_KIND));
        }
        let whole = whole_units::<D>(&found, expected);
        let is_torn = |name: &&String| !whole.contains(&D::unit(name));
        let torn = found.keys().filter(is_torn);
        let mut flaws: Vec<String> = torn.map(|name| format!("{name} is not whole")).collect();
        let is_all = found.len() == expected.len();
        flaws.extend((*ended == Ended::Done && !is_all).then(|| "not all is there".to_owned()));
        let done = self.done();
        let is_true = whole.len() as u64 >= done;
        flaws.extend((!is_true).then(|| format!("the journal says that {done} steps are done")));
        flaws
    }
}

#[test]
fn restore_into_files_survives_every_fault() {
    every_fault::<Restore<Ndjson>>();
}

#[test]
fn restore_into_exports_survives_every_fault() {
    every_fault::<Restore<Dir>>();
}

#[test]
fn restore_into_service_survives_every_fault() {
    every_fault::<Restore<Service>>();
}

/// What is left out where there is no emulator.
const IN_EMULATOR: &str = "a restore into the emulator under every fault";

#[test]
fn restore_into_emulator_survives_every_fault() {
    if emulator(IN_EMULATOR).is_some() {
        every_fault::<Restore<EmulatorProject>>();
    }
}

#[test]
fn restore_survives_pairs_of_faults() {
    pairs_of_faults::<Restore<Ndjson>>(60);
    pairs_of_faults::<Restore<Dir>>(60);
}

/// A restore that is asked to stop while a call of its target hangs.
struct Stopped(Restore<Ndjson>);

impl Scene for Stopped {
    fn new() -> Self {
        Stopped(Scene::new())
    }

    fn copy(&self) -> Self {
        Stopped(self.0.copy())
    }

    async fn run(&self, faults: &Faults) -> Ended {
        let stop = CancellationToken::new();
        let stopped = async {
            // Virtual time goes on only where everything waits.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
            std::future::pending().await
        };
        tokio::select! {
            ended = self.0.restore(faults, stop.clone()) => Ended::new(Some(ended)),
            ended = stopped => ended,
        }
    }

    fn flaws(&self, ended: &Ended) -> Vec<String> {
        self.0.flaws(ended)
    }
}

#[test]
fn stalled_target_does_not_keep_stopped_restore() {
    let (counts, _) = undisturbed(&Stopped::new());
    let spots = counts
        .into_iter()
        .filter(|(spot, _)| spot.place == "target");
    for (spot, number) in spots.flat_map(|(spot, count)| (0..count).map(move |it| (spot, it))) {
        let (scene, faults) = (Stopped::new(), Faults::default());
        faults.plan(spot, number, Deed::Stall);
        let ended = run(&scene, &faults);
        let case = Case {
            spot,
            number,
            deed: Deed::Stall,
        };
        let is_stopped = matches!(ended, Ended::Failed(ExitCode::Interrupted, _));
        assert!(is_stopped, "{case}: {ended:?}");
        assert_eq!(scene.flaws(&ended), [""; 0], "{case}");
        assert_eq!(undisturbed(&scene).1, [""; 0], "{case}");
    }
}
