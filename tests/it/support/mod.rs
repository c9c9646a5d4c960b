//! What the tests share: the program in a clean environment, folders of their own, and what to do
//! where another program is missing.

pub mod data;
pub mod datastore_server;
pub mod emulator;
pub mod entities;
pub mod fault_plan;
pub mod faults;
pub mod fixtures;
pub mod gcs_server;
pub mod http_server;
pub mod mail_server;
pub mod memory_store;
pub mod operations;
pub mod service_exports;
pub mod zips;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::Digest as _;
use tempfile::TempDir;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kindpack");

/// Whatever takes longer hangs.
const TIME_OUT: Duration = Duration::from_secs(120);

/// What would make the outcome depend on who runs the tests, and where.
const FOREIGN: [&str; 24] = [
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_DATASTORE",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_FIRESTORE",
    "CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE",
    "DATASTORE_EMULATOR_HOST",
    "DATASTORE_EMULATOR_HOST_PATH",
    "DATASTORE_HOST",
    "KINDPACK_REDACT_KEY",
    "KINDPACK_SIGN_PASSWORD",
    "KINDPACK_SIGN_PASSWORD_FILE",
    "DATASTORE_PROJECT_ID",
    "STORAGE_EMULATOR_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "CLOUDSDK_CONFIG",
    "SOURCE_DATE_EPOCH",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "XDG_DATA_HOME",
    "KINDPACK_DATASTORE_EMULATOR",
    "KINDPACK_FIRESTORE_EMULATOR",
    "KINDPACK_STATE_DIR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLUMNS",
];

/// A folder of a test's own, with an empty home beside it. Gone when dropped.
pub struct TestDir {
    folder: PathBuf,
    _gone_when_dropped: Option<TempDir>,
}

/// How one run of a program ended.
pub struct Run {
    /// The exit code; 128 and the signal's number where a signal ended it.
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

/// A program that runs.
pub struct Running {
    child: Child,
    out: File,
    err: File,
    what: String,
}

impl TestDir {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("kindpack-test-")
            .tempdir()
            .unwrap();
        TestDir::at(folder.path().to_owned(), Some(folder))
    }

    /// A folder among those that cargo keeps for tests, for what is made once and never dropped.
    /// What an earlier run left in it is gone.
    pub fn kept(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::remove_dir_all(&folder).ok();
        TestDir::at(folder, None)
    }

    fn at(folder: PathBuf, gone_when_dropped: Option<TempDir>) -> Self {
        fs::create_dir_all(folder.join("home")).unwrap();
        fs::create_dir_all(folder.join("work")).unwrap();
        TestDir {
            folder,
            _gone_when_dropped: gone_when_dropped,
        }
    }

    /// The folder in which programs run, so that they can be given relative names.
    pub fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// The home folder of the programs.
    pub fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    /// A path below [`TestDir::work`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// The same as text.
    pub fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, its folders included.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        write(&self.path(name), bytes);
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn json_file(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// What lies directly in a folder, sorted.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A program with the environment of nobody in particular.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.work())
            .stdin(Stdio::null());
        for name in FOREIGN {
            command.env_remove(name);
        }
        let home = self.home();
        for (name, folder) in [
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
        ] {
            command.env(name, home.join(folder));
        }
        command
            .env("HOME", home)
            .env("NO_COLOR", "1")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    pub fn kindpack(&self, args: &[&str]) -> Command {
        self.program(PROGRAM, args)
    }

    /// Runs `kindpack ARGS` to its end. A panic, a signal or a hang is a failure.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Run {
        sound(Running::start(self.kindpack(args)).wait(), args)
    }

    /// As [`TestDir::run`], and demands an exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(
            run.code,
            code,
            "kindpack {}: {}",
            args.join(" "),
            run.brief()
        );
        run
    }

    /// As [`TestDir::expect`] with `--json`; the last event must agree with the exit code. Gives that
    /// event.
    #[track_caller]
    pub fn json(&self, code: i32, args: &[&str]) -> Value {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let run = self.expect(code, &args);
        let event = run.last_event();
        if matches!(code, 0 | 8) {
            assert_eq!(
                event["event"],
                "done",
                "kindpack {}: {event}",
                args.join(" ")
            );
        } else {
            assert_eq!(
                event["event"],
                "failed",
                "kindpack {}: {event}",
                args.join(" ")
            );
            assert_eq!(event["code"], code, "kindpack {}: {event}", args.join(" "));
            assert!(
                event["error"]
                    .as_str()
                    .is_some_and(|error| !error.is_empty()),
                "{event}"
            );
        }
        event
    }

    /// Packs a folder into `set.zip`.
    #[track_caller]
    pub fn pack(&self, source: &str) -> Value {
        self.json(0, &["pack", source, "set.zip"])
    }

    /// Makes a plan and gives it.
    #[track_caller]
    pub fn plan(&self, archive: &str, target: &str, name: &str, options: &[&str]) -> Value {
        let args: Vec<&str> = ["plan", archive, "--target", target, "-o", name]
            .iter()
            .chain(options)
            .copied()
            .collect();
        self.expect(0, &args);
        self.json_file(name)
    }
}

/// Fails where a run crashed.
#[track_caller]
pub fn sound(run: Run, args: &[&str]) -> Run {
    let crashed =
        run.code == 101 || run.err.contains("panicked at") || run.err.contains("stack backtrace");
    assert!(
        !crashed,
        "kindpack {} crashed: {}",
        args.join(" "),
        run.brief()
    );
    assert!(
        run.code < 128 || matches!(run.code, 130 | 143),
        "kindpack {} was ended by a signal: {}",
        args.join(" "),
        run.brief()
    );
    run
}

impl Run {
    pub fn text(&self) -> String {
        String::from_utf8(self.out.clone()).expect("standard output in UTF-8")
    }

    /// The JSON objects on standard output, one a line.
    #[track_caller]
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let parse = |line: &str| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("no event: {line:?}: {error}"))
        };
        text.lines().map(parse).collect()
    }

    #[track_caller]
    pub fn last_event(&self) -> Value {
        let events = self.events();
        events
            .last()
            .unwrap_or_else(|| panic!("no event was printed: {}", self.brief()))
            .clone()
    }

    /// Exit code and standard error, for messages.
    pub fn brief(&self) -> String {
        let err: String = self.err.chars().take(2_000).collect();
        format!(
            "exit {}, standard error: {}",
            self.code,
            if err.is_empty() {
                "(nothing)"
            } else {
                err.trim_end()
            }
        )
    }
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let (out, err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let what = format!("{command:?}")
            .chars()
            .rev()
            .take(300)
            .collect::<String>()
            .chars()
            .rev()
            .collect();
        let child = command
            .stdout(out.try_clone().unwrap())
            .stderr(err.try_clone().unwrap())
            .spawn()
            .unwrap();
        Running {
            child,
            out,
            err,
            what,
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal such as `INT`.
    pub fn signal(&self, signal: &str) {
        // The shell's own `kill` is there wherever a shell is.
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} {}", self.child.id())])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> Run {
        self.child.kill().unwrap();
        self.wait()
    }

    /// Waits until `ready`, or until the program has ended; says whether it still runs.
    pub fn wait_until(&mut self, ready: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !ready() {
            if self.has_ended() {
                return false;
            }
            assert!(
                begun.elapsed() < TIME_OUT,
                "{}: what was waited for did not come",
                self.what
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        !self.has_ended()
    }

    /// Waits until the program has printed `text` on standard output, or has ended; says whether it
    /// still runs.
    pub fn wait_for_output(&mut self, text: &str) -> bool {
        let out = self.out.try_clone().unwrap();
        self.wait_for(out, text)
    }

    /// As [`Running::wait_for_output`], on standard error.
    pub fn wait_for_error(&mut self, text: &str) -> bool {
        let err = self.err.try_clone().unwrap();
        self.wait_for(err, text)
    }

    fn wait_for(&mut self, printed: File, text: &str) -> bool {
        self.wait_until(move || {
            let mut bytes = vec![0; printed.metadata().unwrap().len() as usize];
            // At a place of our own: the program writes where the file stands.
            let read = printed.read_at(&mut bytes, 0).unwrap();
            String::from_utf8_lossy(&bytes[..read]).contains(text)
        })
    }

    #[track_caller]
    pub fn wait(mut self) -> Run {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > TIME_OUT {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("{} hangs", self.what);
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(10));
        };
        let read = |mut file: &File| {
            let mut bytes = Vec::new();
            file.rewind().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            bytes
        };
        Run {
            code: code_of(status),
            out: read(&self.out),
            err: String::from_utf8_lossy(&read(&self.err)).into_owned(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed leaves nothing running; one that ended well has waited.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// A program on PATH; where it is missing the test is skipped, or fails if `KINDPACK_TESTS_REQUIRE`
/// names `word`.
pub fn outside_program(word: &str, names: &[&str], test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.iter().map(move |name| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(
            word,
            test,
            &format!("{} is not installed", names.join(" or ")),
        );
    }
    found
}

/// A Python that has packages of Google's, parted by spaces, made once below the build folder; where
/// it cannot be had the test is skipped.
pub fn python_with(packages: &str, module: &str, test: &str) -> Option<PathBuf> {
    let made = make_python(packages, module);
    made.map_err(|why| skip("google-client", test, &why)).ok()
}

fn make_python(packages: &str, module: &str) -> Result<PathBuf, String> {
    // Several tests want the same one, and the first of them makes it.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("python-{}", module.replace(", ", "+")));
    let python = home.join("bin/python");
    let works = || {
        Command::new(&python)
            .args(["-c", &format!("import {module}")])
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if works() {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr)
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()),
        Err(error) => Err(error.to_string()),
    };
    // An environment that an interrupted run left half made is made anew.
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&home))?;
    run(Command::new(home.join("bin/pip"))
        .args(["install", "--quiet"])
        .args(packages.split(' ')))?;
    if works() {
        Ok(python)
    } else {
        Err(format!("{module} cannot be imported"))
    }
}

/// Says that a test is left out, or fails where that must not be.
pub fn skip(word: &str, test: &str, reason: &str) {
    let required = std::env::var("KINDPACK_TESTS_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|required| required.trim() == word),
        "{test}: KINDPACK_TESTS_REQUIRE names {word}, but {reason}"
    );
    // Not by `eprintln!`, which is kept from whoever runs tests that pass.
    std::io::stderr()
        .write_all(format!("skipped: {test}, reason {reason}\n").as_bytes())
        .unwrap();
}

pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Every file below a folder, by its name with `/` between the segments.
pub fn files_below(folder: &Path) -> BTreeMap<String, PathBuf> {
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeMap<String, PathBuf>) {
        for entry in
            fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name, entry.path());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, "", &mut found);
    found
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, path) in files_below(from) {
        write(&to.join(name), fs::read(path).unwrap());
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
