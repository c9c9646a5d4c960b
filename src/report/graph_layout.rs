//! Places for the boxes of a graph: a column for each layer, few crossings, short lines.
//!
//! Knows numbers only. The nodes are numbered in the order of the plan, and each link goes from an
//! earlier node to a later one, so the layers follow the plan. (General layout libraries choose an
//! order of their own.)

use std::collections::BTreeMap;

use petgraph::unionfind::UnionFind;

/// The size of a box, and the distances between boxes, in pixels.
pub const BOX_WIDTH: f64 = 172.0;
pub const BOX_HEIGHT: f64 = 34.0;
const COLUMN_GAP: f64 = 64.0;
const ROW_GAP: f64 = 10.0;
const PART_GAP: f64 = 30.0;

/// The height that a passing line takes.
const LINE_HEIGHT: f64 = 6.0;

/// Parts of the graph are put side by side up to this width.
const MAX_SHELF_WIDTH: f64 = 1_080.0;

/// How often the order in the columns, and then the height of the boxes, is improved.
const SWEEPS: usize = 12;

/// Where boxes and lines are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GraphLayout {
    pub width: f64,
    pub height: f64,
    /// The upper left corner of each box.
    pub boxes: Vec<Point>,
    /// The points that each link passes on its way, from left to right: one for each column
    /// between its ends.
    pub routes: Vec<Vec<Point>>,
}

/// A point, in pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

/// Why numbers of items are in range.
const IS_ITEM: &str = "each list has an element for every item of the part";

fn at<T: Copy>(list: &[T], index: usize) -> T {
    *list.get(index).expect(IS_ITEM)
}

fn set<T>(list: &mut [T], index: usize, value: T) {
    *list.get_mut(index).expect(IS_ITEM) = value;
}

/// Lays out nodes that are joined by `links`, each from an earlier node to a later one, and by
/// `others`, which only hold the parts together.
pub fn lay_out(nodes: usize, links: &[(usize, usize)], others: &[(usize, usize)]) -> GraphLayout {
    let mut layout = GraphLayout {
        boxes: vec![Point::default(); nodes],
        routes: vec![Vec::new(); links.len()],
        ..GraphLayout::default()
    };
    let mut parts: Vec<Part> = parts(nodes, links, others);
    parts.iter_mut().for_each(Part::arrange);
    parts.sort_by(|a, b| b.height().total_cmp(&a.height()));
    let mut corner = Point::default();
    let mut shelf_height = 0.0;
    for part in &parts {
        if corner.x > 0.0 && corner.x + part.width() > MAX_SHELF_WIDTH {
            corner = Point {
                x: 0.0,
                y: corner.y + shelf_height + PART_GAP,
            };
            shelf_height = 0.0;
        }
        part.place(corner, &mut layout);
        shelf_height = f64::max(shelf_height, part.height());
        layout.width = layout.width.max(corner.x + part.width());
        layout.height = layout.height.max(corner.y + part.height());
        corner.x += part.width() + PART_GAP;
    }
    layout
}

/// The nodes that hang together, with their links.
fn parts(nodes: usize, links: &[(usize, usize)], others: &[(usize, usize)]) -> Vec<Part> {
    let mut sets = UnionFind::<usize>::new(nodes);
    for &(from, to) in links.iter().chain(others) {
        sets.union(from, to);
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (node, set) in sets.into_labeling().into_iter().enumerate() {
        members.entry(set).or_default().push(node);
    }
    let mut number = vec![0; nodes];
    let mut part_of = vec![0; nodes];
    for (part, nodes) in members.values().enumerate() {
        for (index, &node) in nodes.iter().enumerate() {
            set(&mut number, node, index);
            set(&mut part_of, node, part);
        }
    }
    let mut own_links = vec![Vec::new(); members.len()];
    for (link, &(from, to)) in links.iter().enumerate() {
        let own = own_links.get_mut(at(&part_of, from)).expect(IS_ITEM);
        own.push((link, at(&number, from), at(&number, to)));
    }
    let parts = members.into_values().zip(own_links);
    parts
        .map(|(nodes, links)| Part::new(nodes, &links))
        .collect()
}

/// Nodes that hang together. Its items are the nodes, and then the points where lines pass columns.
struct Part {
    /// The numbers of its nodes in the whole graph.
    nodes: Vec<usize>,
    /// The column of each item.
    column: Vec<usize>,
    /// The items of each column, from top to bottom.
    columns: Vec<Vec<usize>>,
    /// The items that each item is joined to in the columns at its left and at its right.
    left: Vec<Vec<usize>>,
    right: Vec<Vec<usize>>,
    /// The middle of each item.
    y: Vec<f64>,
    /// The number of each link in the whole graph, and the items that it passes.
    routes: Vec<(usize, Vec<usize>)>,
}

impl Part {
    fn new(nodes: Vec<usize>, links: &[(usize, usize, usize)]) -> Self {
        let column = first_columns(nodes.len(), links);
        let columns = column.iter().max().map_or(0, |last| last + 1);
        let mut part = Part {
            left: vec![Vec::new(); nodes.len()],
            right: vec![Vec::new(); nodes.len()],
            y: vec![0.0; nodes.len()],
            columns: vec![Vec::new(); columns],
            routes: Vec::new(),
            nodes,
            column,
        };
        for node in 0..part.nodes.len() {
            part.enter_column(node);
        }
        part.add_routes(links);
        part
    }

    fn enter_column(&mut self, item: usize) {
        let column = at(&self.column, item);
        self.columns.get_mut(column).expect(IS_ITEM).push(item);
    }

    /// Lines from one node share their points, so they pass as one.
    fn add_routes(&mut self, links: &[(usize, usize, usize)]) {
        let mut points: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for &(link, from, to) in links {
            let mut last = from;
            let mut passed = Vec::new();
            for column in at(&self.column, from) + 1..at(&self.column, to) {
                let point = points.entry((from, column));
                let point = *point.or_insert_with(|| self.add_point(column));
                self.join(last, point);
                passed.push(point);
                last = point;
            }
            self.join(last, to);
            self.routes.push((link, passed));
        }
    }

    fn add_point(&mut self, column: usize) -> usize {
        let item = self.column.len();
        self.column.push(column);
        self.left.push(Vec::new());
        self.right.push(Vec::new());
        self.y.push(0.0);
        self.enter_column(item);
        item
    }

    fn join(&mut self, from: usize, to: usize) {
        let right = self.right.get_mut(from).expect(IS_ITEM);
        if !right.contains(&to) {
            right.push(to);
            self.left.get_mut(to).expect(IS_ITEM).push(from);
        }
    }

    fn arrange(&mut self) {
        for sweep in 0..SWEEPS {
            self.order_columns(sweep % 2 == 0);
        }
        self.stack();
        for sweep in 0..SWEEPS {
            self.move_columns(sweep % 2 == 0);
        }
        let top = self.edges().0;
        self.y.iter_mut().for_each(|y| *y -= top);
    }

    /// The numbers of the columns, in the direction of a sweep.
    fn column_numbers(&self, to_right: bool) -> Vec<usize> {
        let numbers = 0..self.columns.len();
        if to_right {
            numbers.collect()
        } else {
            numbers.rev().collect()
        }
    }

    /// Sorts each column by the middle of what its items are joined to on one side.
    fn order_columns(&mut self, to_right: bool) {
        for number in self.column_numbers(to_right) {
            let places = self.places();
            let joined = if to_right { &self.left } else { &self.right };
            let middle = |item: usize| {
                let others = joined.get(item).expect(IS_ITEM);
                mean(others.iter().map(|&other| at(&places, other)))
                    .unwrap_or_else(|| at(&places, item))
            };
            let column = self.columns.get_mut(number).expect(IS_ITEM);
            column.sort_by(|&a, &b| middle(a).total_cmp(&middle(b)));
        }
    }

    /// The place of each item in its column, as a share of the column.
    fn places(&self) -> Vec<f64> {
        let mut places = vec![0.0; self.column.len()];
        for column in &self.columns {
            for (place, &item) in column.iter().enumerate() {
                let share = (place as f64 + 0.5) / column.len() as f64;
                set(&mut places, item, share);
            }
        }
        places
    }

    /// The distance between the middles of two neighbours.
    fn distance(&self, above: usize, below: usize) -> f64 {
        (self.item_height(above) + self.item_height(below)) / 2.0 + ROW_GAP
    }

    fn item_height(&self, item: usize) -> f64 {
        if item < self.nodes.len() {
            BOX_HEIGHT
        } else {
            LINE_HEIGHT
        }
    }

    /// Puts the items of each column one below the other.
    fn stack(&mut self) {
        for column in self.columns.clone() {
            let mut last: Option<(usize, f64)> = None;
            for item in column {
                let y = last.map_or(0.0, |(above, y)| y + self.distance(above, item));
                set(&mut self.y, item, y);
                last = Some((item, y));
            }
        }
    }

    /// Moves the items of each column as near to what they are joined to as the others let them.
    fn move_columns(&mut self, to_right: bool) {
        for number in self.column_numbers(to_right) {
            let column = self.columns.get(number).expect(IS_ITEM).clone();
            let mut offsets = Vec::with_capacity(column.len());
            let mut wanted = Vec::with_capacity(column.len());
            let mut offset = 0.0;
            let mut above = None;
            for &item in &column {
                offset += above.map_or(0.0, |above| self.distance(above, item));
                offsets.push(offset);
                wanted.push(self.wanted_y(item) - offset);
                above = Some(item);
            }
            let placed = nearest_rising(&wanted).into_iter().zip(offsets);
            for (&item, (y, offset)) in column.iter().zip(placed) {
                set(&mut self.y, item, y + offset);
            }
        }
    }

    /// The middle of all that an item is joined to.
    fn wanted_y(&self, item: usize) -> f64 {
        let left = self.left.get(item).expect(IS_ITEM);
        let right = self.right.get(item).expect(IS_ITEM);
        let joined = left.iter().chain(right);
        mean(joined.map(|&other| at(&self.y, other))).unwrap_or_else(|| at(&self.y, item))
    }

    fn width(&self) -> f64 {
        let columns = self.columns.len() as f64;
        columns * BOX_WIDTH + (columns - 1.0).max(0.0) * COLUMN_GAP
    }

    /// The upper edge of the highest item, and the lower one of the lowest.
    fn edges(&self) -> (f64, f64) {
        let edge = |item: usize, side: f64| at(&self.y, item) + side * self.item_height(item) / 2.0;
        let items = 0..self.y.len();
        let top = items.clone().map(|item| edge(item, -1.0));
        let bottom = items.map(|item| edge(item, 1.0));
        (
            top.fold(f64::INFINITY, f64::min),
            bottom.fold(f64::NEG_INFINITY, f64::max),
        )
    }

    fn height(&self) -> f64 {
        let (top, bottom) = self.edges();
        bottom - top
    }

    /// Writes its boxes and routes into the whole layout.
    fn place(&self, corner: Point, layout: &mut GraphLayout) {
        let point = |item: usize| Point {
            x: corner.x + at(&self.column, item) as f64 * (BOX_WIDTH + COLUMN_GAP),
            y: corner.y + at(&self.y, item),
        };
        for (item, &node) in self.nodes.iter().enumerate() {
            let Point { x, y } = point(item);
            let y = y - BOX_HEIGHT / 2.0;
            set(&mut layout.boxes, node, Point { x, y });
        }
        for (link, passed) in &self.routes {
            let points = passed.iter().map(|&item| point(item)).collect();
            set(&mut layout.routes, *link, points);
        }
    }
}

/// The first column in which each node comes after all that it is joined to at its left.
fn first_columns(nodes: usize, links: &[(usize, usize, usize)]) -> Vec<usize> {
    let mut sorted: Vec<(usize, usize)> = links.iter().map(|&(_, from, to)| (to, from)).collect();
    sorted.sort_unstable();
    let mut column = vec![0; nodes];
    for (to, from) in sorted {
        let after = at(&column, from) + 1;
        let own = at(&column, to);
        set(&mut column, to, own.max(after));
    }
    column
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

/// The rising sequence that is nearest to `wanted`: what falls is replaced by its mean.
fn nearest_rising(wanted: &[f64]) -> Vec<f64> {
    let mut blocks: Vec<(f64, usize)> = Vec::new();
    for &value in wanted {
        let mut block = (value, 1);
        while let Some((mean, count)) = blocks.pop_if(|(mean, _)| *mean > block.0) {
            let sum = mean * count as f64 + block.0 * block.1 as f64;
            block = (sum / (count + block.1) as f64, count + block.1);
        }
        blocks.push(block);
    }
    let values = blocks.into_iter();
    values
        .flat_map(|(mean, count)| std::iter::repeat_n(mean, count))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_follow_the_links() {
        let links = [(0, 1), (1, 3), (0, 3), (2, 3)];
        let layout = lay_out(4, &links, &[]);
        let columns: Vec<f64> = layout.boxes.iter().map(|corner| corner.x).collect();
        let column = BOX_WIDTH + COLUMN_GAP;
        assert_eq!(columns, [0.0, column, 0.0, 2.0 * column]);
        let passed: Vec<usize> = layout.routes.iter().map(Vec::len).collect();
        assert_eq!(passed, [0, 0, 1, 1]);
    }

    #[test]
    fn nothing_needs_no_room() {
        assert_eq!(lay_out(0, &[], &[]), GraphLayout::default());
    }

    #[test]
    fn falling_values_get_their_mean() {
        assert_eq!(nearest_rising(&[1.0, 5.0, 3.0, 7.0]), [1.0, 4.0, 4.0, 7.0]);
        assert_eq!(nearest_rising(&[3.0, 2.0, 1.0]), [2.0, 2.0, 2.0]);
    }

    /// Links between some of `nodes` nodes, each from an earlier one to a later one.
    fn links(nodes: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
        let pair = (0..nodes, 0..nodes).prop_filter_map("a link joins two", |(a, b)| {
            (a != b).then_some((a.min(b), a.max(b)))
        });
        proptest::collection::vec(pair, 0..60)
    }

    proptest! {
        #[test]
        fn boxes_never_overlap_and_stay_inside(links in links(24), others in links(24)) {
            let layout = lay_out(24, &links, &others);
            for (number, a) in layout.boxes.iter().enumerate() {
                prop_assert!(a.x >= -0.001 && a.x + BOX_WIDTH <= layout.width + 0.001);
                prop_assert!(a.y >= -0.001 && a.y + BOX_HEIGHT <= layout.height + 0.001);
                for b in layout.boxes.iter().skip(number + 1) {
                    let apart = (a.x - b.x).abs() >= BOX_WIDTH || (a.y - b.y).abs() >= BOX_HEIGHT - 0.001;
                    prop_assert!(apart, "{a:?} {b:?}");
                }
            }
            for &(from, to) in &links {
                prop_assert!(layout.boxes[from].x < layout.boxes[to].x);
            }
        }
    }
}
