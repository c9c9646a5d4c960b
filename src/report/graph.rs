//! Which kind needs which, as boxes and lines in the order of the plan.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use petgraph::unionfind::UnionFind;

use super::graph_layout::{BOX_HEIGHT, BOX_WIDTH, GraphLayout, Point, lay_out};
use super::values::{KindName, count, counted};
use crate::model::{KindInfo, KindRef, Manifest};
use crate::plan::{Cycle, Plan, Step};

/// More boxes and lines than that nobody can follow.
const MAX_BOXES: usize = 90;
const MAX_LINES: usize = 260;

/// More cycles than that are listed only on request.
const MAX_CYCLES: usize = 8;

/// Free space around the drawing, in pixels.
const MARGIN: f64 = 8.0;

/// Room for lines that leave their boxes downward or to the right, in pixels.
const ARC_ROOM: f64 = 44.0;

/// Which kind needs which.
#[derive(Debug, Clone, PartialEq)]
pub struct DependencyGraph {
    pub width: f64,
    pub height: f64,
    pub box_width: f64,
    pub box_height: f64,
    pub boxes: Vec<GraphBox>,
    pub lines: Vec<GraphLine>,
    /// One sentence for each cycle.
    pub cycles: Vec<String>,
    /// How many cycles there are, where they are too many to be read at once.
    pub cycles_summary: Option<String>,
    /// What is not drawn.
    pub note: Option<String>,
    /// Which sorts of lines there are, for the legend.
    pub sorts: Vec<LineSort>,
}

/// A kind in the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphBox {
    pub x: f64,
    pub y: f64,
    pub step: String,
    pub name: KindName,
    pub title: String,
    pub is_in_cycle: bool,
    /// Whether its entities refer to others of the same kind.
    pub is_self_referring: bool,
}

/// A need in the graph, drawn from the kind that is needed.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphLine {
    pub path: String,
    pub title: String,
    pub sort: LineSort,
}

/// Why one kind needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineSort {
    /// A reference to a kind that is restored later.
    Later,
    /// The kind is an ancestor in the keys.
    Parent,
    /// A property refers to the kind.
    Reference,
}

impl LineSort {
    /// The class in the page's style.
    pub fn class(self) -> &'static str {
        match self {
            LineSort::Later => "later",
            LineSort::Parent => "parent",
            LineSort::Reference => "reference",
        }
    }

    /// What the legend says.
    pub fn meaning(self) -> &'static str {
        match self {
            LineSort::Later => "refers to a kind that is restored later",
            LineSort::Parent => "has it as a parent",
            LineSort::Reference => "refers to it",
        }
    }
}

/// One kind needs another; the numbers are places in the plan.
#[derive(Debug, Clone, Copy)]
struct Need {
    needed: usize,
    by: usize,
    sort: LineSort,
    references: Option<u64>,
}

/// The kinds of the plan that the graph shows.
struct GraphSelection<'a> {
    steps: Vec<&'a Step>,
    needs: Vec<Need>,
    note: Option<String>,
}

impl DependencyGraph {
    /// The graph of the kinds of a plan that need others; none where no kind does.
    pub fn new(manifest: &Manifest, plan: &Plan) -> Option<Self> {
        let (needs, self_referring) = needs(manifest, plan);
        let selection = select(plan, needs)?;
        let is_later = |need: &&Need| need.sort == LineSort::Later;
        let (later, links): (Vec<&Need>, Vec<&Need>) = selection.needs.iter().partition(is_later);
        let ends = |needs: &[&Need]| needs.iter().map(|need| (need.needed, need.by)).collect();
        let (drawn, others): (Vec<_>, Vec<_>) = (ends(&links), ends(&later));
        let layout = lay_out(selection.steps.len(), &drawn, &others);
        let room = 2.0 * MARGIN + if later.is_empty() { 0.0 } else { ARC_ROOM };
        let lines = lines(&selection.steps, &layout, &links, &later);
        Some(DependencyGraph {
            width: layout.width + room,
            height: layout.height + room,
            box_width: BOX_WIDTH,
            box_height: BOX_HEIGHT,
            boxes: boxes(plan, &selection.steps, &layout, &self_referring),
            sorts: sorts(&lines),
            lines,
            cycles_summary: (plan.cycles.len() > MAX_CYCLES)
                .then(|| counted(plan.cycles.len(), "cycle", "cycles")),
            cycles: plan.cycles.iter().map(cycle_sentence).collect(),
            note: selection.note,
        })
    }
}

fn boxes(
    plan: &Plan,
    steps: &[&Step],
    layout: &GraphLayout,
    self_referring: &HashSet<u32>,
) -> Vec<GraphBox> {
    let in_cycles: HashSet<KindRef> = cycle_members(&plan.cycles).collect();
    let placed = steps.iter().zip(&layout.boxes);
    let boxes = placed.map(|(step, corner)| {
        let is_in_cycle = in_cycles.contains(&step.pair());
        let is_self_referring = self_referring.contains(&step.id);
        graph_box(step, *corner, is_in_cycle, is_self_referring)
    });
    boxes.collect()
}

/// What the kinds of the plan need of one another, and the steps whose kinds refer to themselves.
fn needs(manifest: &Manifest, plan: &Plan) -> (Vec<Need>, HashSet<u32>) {
    let kinds = manifest.kinds.iter().map(|kind| (kind.pair(), kind));
    let kinds: HashMap<KindRef, &KindInfo> = kinds.collect();
    let places = plan.steps.iter().map(Step::pair).zip(0..);
    let places: HashMap<KindRef, usize> = places.collect();
    let (mut needs, mut self_referring) = (Vec::new(), HashSet::new());
    for (by, step) in plan.steps.iter().enumerate() {
        let kind = kinds.get(&step.pair());
        for need in kind
            .into_iter()
            .flat_map(|kind| needs_of(kind, by, &places))
        {
            if need.needed == by {
                self_referring.insert(step.id);
            } else {
                needs.push(need);
            }
        }
    }
    (needs, self_referring)
}

/// What a kind needs of the kinds at `places`: each once, as a parent if it is one.
fn needs_of(kind: &KindInfo, by: usize, places: &HashMap<KindRef, usize>) -> Vec<Need> {
    let counts: HashMap<&KindRef, Option<u64>> = kind.counted_references().collect();
    let mut needs: BTreeMap<usize, Need> = BTreeMap::new();
    for (pair, is_parent) in kind.needs() {
        let Some(&needed) = places.get(&pair) else {
            continue;
        };
        let need = Need {
            needed,
            by,
            sort: sort(needed, by, is_parent),
            references: counts.get(&pair).copied().flatten(),
        };
        needs.entry(needed).or_insert(need);
    }
    needs.into_values().collect()
}

fn sort(needed: usize, by: usize, is_parent: bool) -> LineSort {
    match (needed > by, is_parent) {
        (true, _) => LineSort::Later,
        (false, true) => LineSort::Parent,
        (false, false) => LineSort::Reference,
    }
}

/// The kinds that are drawn, numbered anew in the order of the plan.
fn select(plan: &Plan, mut needs: Vec<Need>) -> Option<GraphSelection<'_>> {
    let all_lines = needs.len();
    let all_boxes = ends(&needs).collect::<BTreeSet<usize>>().len();
    let chosen = choose(plan.steps.len(), &needs);
    needs.retain(|need| chosen.contains(&need.needed) && chosen.contains(&need.by));
    needs.sort_by_key(|need| (need.sort, Reverse(need.references), need.by, need.needed));
    needs.truncate(MAX_LINES);
    let drawn: BTreeSet<usize> = ends(&needs).collect();
    let numbers: HashMap<usize, usize> = drawn.iter().copied().zip(0..).collect();
    let number = |place: usize| numbers.get(&place).copied();
    let renumbered = needs.iter().filter_map(|need| {
        let (needed, by) = (number(need.needed)?, number(need.by)?);
        Some(Need {
            needed,
            by,
            ..*need
        })
    });
    let needs: Vec<Need> = renumbered.collect();
    let steps = drawn.iter().filter_map(|&place| plan.steps.get(place));
    (!drawn.is_empty()).then(|| GraphSelection {
        note: note((drawn.len(), all_boxes), (needs.len(), all_lines)),
        steps: steps.collect(),
        needs,
    })
}

/// The places of both kinds of each need.
fn ends(needs: &[Need]) -> impl Iterator<Item = usize> {
    needs.iter().flat_map(|need| [need.needed, need.by])
}

/// The places that have a box: parts of the graph that hang together, the largest first, as many as
/// there is room for. Of one that is too large for itself, the kinds with the most links.
fn choose(steps: usize, needs: &[Need]) -> HashSet<usize> {
    let mut parts = parts(steps, needs);
    parts.sort_by_key(|part| Reverse(part.len()));
    let mut chosen = HashSet::new();
    for mut part in parts {
        if chosen.is_empty() {
            part.truncate(MAX_BOXES);
        }
        if chosen.len() + part.len() <= MAX_BOXES {
            chosen.extend(part);
        }
    }
    chosen
}

/// The places that hang together by links, those with the most links first.
fn parts(steps: usize, needs: &[Need]) -> Vec<Vec<usize>> {
    let mut sets = UnionFind::<usize>::new(steps);
    let mut links: BTreeMap<usize, usize> = BTreeMap::new();
    for need in needs {
        sets.union(need.needed, need.by);
        *links.entry(need.needed).or_default() += 1;
        *links.entry(need.by).or_default() += 1;
    }
    let mut linked: Vec<(usize, usize)> = links.into_iter().collect();
    linked.sort_by_key(|&(place, links)| (Reverse(links), place));
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (place, _) in linked {
        parts.entry(sets.find(place)).or_default().push(place);
    }
    parts.into_values().collect()
}

fn note((boxes, all_boxes): (usize, usize), (lines, all_lines): (usize, usize)) -> Option<String> {
    if boxes == all_boxes && lines == all_lines {
        return None;
    }
    Some(format!(
        "Drawn are {} of {} with links, and {} of {} links.",
        count(boxes as u64),
        counted(all_boxes, "kind", "kinds"),
        count(lines as u64),
        count(all_lines as u64)
    ))
}

fn cycle_members(cycles: &[Cycle]) -> impl Iterator<Item = KindRef> {
    let members = cycles.iter().flat_map(|cycle| &cycle.kinds);
    members.map(|member| member.pair())
}

/// The kinds of a cycle, and how many of its references point forward.
fn cycle_sentence(cycle: &Cycle) -> String {
    let mut names: Vec<String> = cycle
        .kinds
        .iter()
        .take(8)
        .map(|member| KindName::from_pair(&member.pair()).to_string())
        .collect();
    if cycle.kinds.len() > names.len() {
        let more = cycle.kinds.len() - names.len();
        names.push(format!("{} more", count(more as u64)));
    }
    let mut sentence = format!("{} need one another", names.join(", "));
    if let Some(forward) = cycle.pointing_forward() {
        write!(sentence, "; {forward}").ok();
    }
    sentence + "."
}

fn graph_box(step: &Step, corner: Point, is_in_cycle: bool, is_self_referring: bool) -> GraphBox {
    let name = KindName::new(&step.namespace, &step.kind);
    let mut title = format!(
        "step {}: {name}, {} entities",
        step.id,
        count(step.entities)
    );
    if is_in_cycle {
        title.push_str("; part of a cycle");
    }
    if is_self_referring {
        title.push_str("; refers to itself");
    }
    GraphBox {
        x: corner.x + MARGIN,
        y: corner.y + MARGIN,
        step: step.id.to_string(),
        title,
        name,
        is_in_cycle,
        is_self_referring,
    }
}

/// The lines, those that matter most last: they are drawn over the others.
fn lines(
    steps: &[&Step],
    layout: &GraphLayout,
    links: &[&Need],
    later: &[&Need],
) -> Vec<GraphLine> {
    let corner = |place: usize| layout.boxes.get(place).copied().unwrap_or_default();
    let routed = links.iter().zip(&layout.routes).map(|(need, route)| {
        let path = route_path(corner(need.needed), route, corner(need.by));
        graph_line(steps, need, path)
    });
    let arcs = later.iter().map(|need| {
        let path = arc_path(corner(need.needed), corner(need.by));
        graph_line(steps, need, path)
    });
    let mut lines: Vec<GraphLine> = routed.chain(arcs).collect();
    lines.sort_by_key(|line| Reverse(line.sort));
    lines
}

fn graph_line(steps: &[&Step], need: &Need, path: String) -> GraphLine {
    let name = |place: usize| {
        let step = steps.get(place);
        step.map(|step| KindName::new(&step.namespace, &step.kind).to_string())
            .unwrap_or_default()
    };
    let mut title = format!(
        "{} {} {}",
        name(need.by),
        verb(need.sort),
        name(need.needed)
    );
    if let Some(references) = need.references {
        write!(title, " ({} references)", count(references)).ok();
    }
    GraphLine {
        path,
        title,
        sort: need.sort,
    }
}

fn verb(sort: LineSort) -> &'static str {
    match sort {
        LineSort::Later => "needs, restored later,",
        LineSort::Reference => "refers to",
        LineSort::Parent => "has parent",
    }
}

/// From the right side of a box through the points between to the left side of another.
fn route_path(from: Point, points: &[Point], to: Point) -> String {
    let middle = MARGIN + BOX_HEIGHT / 2.0;
    let (mut x, mut y) = (from.x + MARGIN + BOX_WIDTH, from.y + middle);
    let mut path = format!("M{x:.1} {y:.1}");
    let passed = points
        .iter()
        .map(|point| (point.x + MARGIN, point.y + MARGIN, true));
    for (next_x, next_y, passes) in passed.chain([(to.x + MARGIN, to.y + middle, false)]) {
        let half = (x + next_x) / 2.0;
        write!(
            path,
            "C{half:.1} {y:.1} {half:.1} {next_y:.1} {next_x:.1} {next_y:.1}"
        )
        .ok();
        (x, y) = (next_x, next_y);
        if passes {
            x += BOX_WIDTH;
            write!(path, "H{x:.1}").ok();
        }
    }
    path
}

/// Around the right sides of two boxes in one column, or below two boxes in different ones.
fn arc_path(from: Point, to: Point) -> String {
    let half = MARGIN + BOX_HEIGHT / 2.0;
    if (from.x - to.x).abs() < BOX_WIDTH {
        let x = from.x.max(to.x) + MARGIN + BOX_WIDTH;
        let (y1, y2, bulge) = (from.y + half, to.y + half, x + ARC_ROOM);
        return format!("M{x:.1} {y1:.1}C{bulge:.1} {y1:.1} {bulge:.1} {y2:.1} {x:.1} {y2:.1}");
    }
    let bottom = MARGIN + BOX_HEIGHT;
    let centre = MARGIN + BOX_WIDTH / 2.0;
    let (x1, y1) = (from.x + centre, from.y + bottom);
    let (x2, y2) = (to.x + centre, to.y + bottom);
    let low = y1.max(y2) + ARC_ROOM;
    format!("M{x1:.1} {y1:.1}C{x1:.1} {low:.1} {x2:.1} {low:.1} {x2:.1} {y2:.1}")
}

/// The sorts of the lines, in the order of the legend.
fn sorts(lines: &[GraphLine]) -> Vec<LineSort> {
    let order = [LineSort::Parent, LineSort::Reference, LineSort::Later];
    let is_drawn = |sort: &LineSort| lines.iter().any(|line| line.sort == *sort);
    order.into_iter().filter(is_drawn).collect()
}
