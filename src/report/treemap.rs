//! The kinds as tiles whose areas are their bytes.

use std::cmp::Reverse;
use std::collections::HashMap;

use streemap::{Rect, squarify};

use super::kind_table::KindSize;
use super::values::{KindName, Percent, bytes, count, counted, share};

/// Tiles of kinds; all others share one.
const MAX_TILES: usize = 120;

/// A kind below this share of all bytes has no tile of its own, unless it is among the largest.
const MIN_SHARE: f64 = 0.002;
const MIN_TILES: usize = 40;

/// From this share on, small kinds have a column of their own.
const MIN_COLUMN: f64 = 0.1;

/// Namespaces that have a colour of their own.
const MAX_COLOURS: usize = 5;

/// The size that the tiles are laid out for, in pixels.
const WIDTH: f64 = 1_080.0;
const HEIGHT: f64 = 400.0;

/// How the bytes are spread over the kinds.
#[derive(Debug, Clone, PartialEq)]
pub struct Treemap {
    pub height: f64,
    pub tiles: Vec<Tile>,
    /// The namespaces by colour, where there are several.
    pub legend: Vec<LegendItem>,
}

/// The area of a kind, or of all small ones together.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    pub x: Percent,
    pub y: f64,
    pub width: Percent,
    pub height: f64,
    pub name: String,
    pub size: String,
    pub title: String,
    /// The number of its colour; none for what shares one.
    pub colour: Option<usize>,
    /// How much text fits.
    pub room: TileRoom,
}

/// How much text fits into a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileRoom {
    /// The name and the size, also where the page is narrow.
    Large,
    /// The name and the size.
    Medium,
    /// The name alone.
    Small,
    Nothing,
}

impl TileRoom {
    fn of(width: f64, height: f64) -> Self {
        match (width, height) {
            (width, height) if width >= 150.0 && height >= 44.0 => TileRoom::Large,
            (width, height) if width >= 92.0 && height >= 44.0 => TileRoom::Medium,
            (width, height) if width >= 48.0 && height >= 24.0 => TileRoom::Small,
            _ => TileRoom::Nothing,
        }
    }

    /// The class in the page's style.
    pub fn class(self) -> &'static str {
        match self {
            TileRoom::Large => "large",
            TileRoom::Medium => "medium",
            TileRoom::Small => "small",
            TileRoom::Nothing => "nothing",
        }
    }

    pub fn has_name(self) -> bool {
        self != TileRoom::Nothing
    }

    pub fn has_size(self) -> bool {
        matches!(self, TileRoom::Large | TileRoom::Medium)
    }
}

/// What a colour stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct LegendItem {
    pub colour: Option<usize>,
    pub name: String,
    pub size: String,
}

/// A tile before it has a place.
struct Area<'a> {
    size: u64,
    kinds: Vec<&'a KindSize>,
    rect: Rect<f64>,
}

impl<'a> Area<'a> {
    fn of(kinds: Vec<&'a KindSize>) -> Self {
        let sizes = kinds.iter().map(|kind| kind.bytes);
        Area {
            size: sizes.fold(0, u64::saturating_add),
            kinds,
            rect: Rect::from_size(0.0, 0.0),
        }
    }
}

impl Treemap {
    /// The tiles of kinds; none where they have no bytes.
    pub fn from_kinds(kinds: &[KindSize]) -> Option<Self> {
        let total = total(kinds);
        if total == 0 {
            return None;
        }
        let colours = Colours::from_kinds(kinds);
        let areas = placed_areas(kinds, total);
        let tiles = areas.iter().map(|area| tile(area, total, &colours));
        Some(Treemap {
            height: HEIGHT,
            tiles: tiles.collect(),
            legend: colours.legend(kinds),
        })
    }
}

/// The areas with their places. Small kinds that are much together stand in a column of their own at
/// the right, and do not press the others together.
fn placed_areas(kinds: &[KindSize], total: u64) -> Vec<Area<'_>> {
    let (mut areas, rest) = areas(kinds, total);
    let share = rest
        .as_ref()
        .map_or(0.0, |rest| rest.size as f64 / total as f64);
    let width = if share < MIN_COLUMN {
        WIDTH
    } else {
        WIDTH * (1.0 - share)
    };
    let mut column = None;
    if let Some(rest) = rest {
        if width < WIDTH {
            let (x, w) = (width, WIDTH - width);
            let rect = Rect {
                x,
                y: 0.0,
                w,
                h: HEIGHT,
            };
            column = Some(Area { rect, ..rest });
        } else {
            areas.push(rest);
            areas.sort_by_key(|area| Reverse(area.size));
        }
    }
    squarify(
        Rect::from_size(width, HEIGHT),
        &mut areas,
        |area| area.size as f64,
        |area, rect| area.rect = rect,
    );
    areas.extend(column);
    areas
}

fn total(kinds: &[KindSize]) -> u64 {
    kinds
        .iter()
        .fold(0, |sum, kind| sum.saturating_add(kind.bytes))
}

/// The large kinds, largest first, and the small ones as one area.
fn areas(kinds: &[KindSize], total: u64) -> (Vec<Area<'_>>, Option<Area<'_>>) {
    let mut sorted: Vec<&KindSize> = kinds.iter().filter(|kind| kind.bytes > 0).collect();
    sorted.sort_by_key(|kind| Reverse(kind.bytes));
    let least = total as f64 * MIN_SHARE;
    let is_large = |kind: &&&KindSize| kind.bytes as f64 >= least;
    let large = sorted.iter().take_while(is_large).count();
    let mut large = large.clamp(MIN_TILES, MAX_TILES).min(sorted.len());
    // One kind alone is not hidden under a name that is no shorter.
    if sorted.len() == large + 1 {
        large += 1;
    }
    let small = sorted.split_off(large);
    let large = sorted.into_iter().map(|kind| Area::of(vec![kind]));
    let small = (!small.is_empty()).then(|| Area::of(small));
    (large.collect(), small)
}

fn tile(area: &Area<'_>, total: u64, colours: &Colours) -> Tile {
    let Rect { x, y, w, h } = area.rect;
    let (size, room) = (bytes(area.size), TileRoom::of(w, h));
    let share = share(area.size, total);
    let (name, title, colour) = match area.kinds.as_slice() {
        [kind] => {
            let entities = count(kind.entities);
            let title = format!("{}: {size} ({share}), {entities} entities", kind.name);
            (kind.name.label(), title, colours.of(&kind.name))
        }
        many => {
            let name = format!("and {} more", count(many.len() as u64));
            let kinds = counted(many.len(), "small kind", "small kinds");
            (name, format!("{kinds}: {size} ({share})"), None)
        }
    };
    Tile {
        x: Percent(x / WIDTH * 100.0),
        y,
        width: Percent(w / WIDTH * 100.0),
        height: h,
        name,
        size: if room == TileRoom::Large {
            format!("{size} · {share}")
        } else {
            size
        },
        title,
        colour,
        room,
    }
}

/// Which namespace has which colour: the largest ones have one of their own.
struct Colours(Vec<String>);

impl Colours {
    fn from_kinds(kinds: &[KindSize]) -> Self {
        let mut sizes: HashMap<&str, u64> = HashMap::new();
        for kind in kinds {
            let size = sizes.entry(&kind.name.namespace).or_default();
            *size = size.saturating_add(kind.bytes);
        }
        let mut sizes: Vec<(&str, u64)> = sizes.into_iter().collect();
        sizes.sort_by_key(|&(name, size)| (Reverse(size), name));
        let largest = sizes.into_iter().take(MAX_COLOURS);
        Colours(largest.map(|(name, _)| name.to_owned()).collect())
    }

    fn of(&self, name: &KindName) -> Option<usize> {
        self.0.iter().position(|own| *own == name.namespace)
    }

    fn legend(&self, kinds: &[KindSize]) -> Vec<LegendItem> {
        let size_of = |colour: Option<usize>| {
            let own = kinds.iter().filter(|kind| self.of(&kind.name) == colour);
            own.fold(0, |sum: u64, kind| sum.saturating_add(kind.bytes))
        };
        let item = |colour: Option<usize>, name: &str| LegendItem {
            colour,
            name: name.to_owned(),
            size: bytes(size_of(colour)),
        };
        let named = self.0.iter().enumerate();
        let mut legend: Vec<LegendItem> = named
            .map(|(colour, name)| item(Some(colour), name))
            .collect();
        if kinds.iter().any(|kind| self.of(&kind.name).is_none()) {
            legend.push(item(None, "other namespaces"));
        }
        if legend.len() < 2 { Vec::new() } else { legend }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Kind, Namespace};

    fn kinds(sizes: &[u64]) -> Vec<KindSize> {
        let kind = |(number, &bytes): (usize, &u64)| KindSize {
            name: KindName::new(&Namespace::default(), &Kind::new(format!("K{number}"))),
            entities: 1,
            bytes,
        };
        sizes.iter().enumerate().map(kind).collect()
    }

    /// The tiles as rectangles in pixels.
    fn tiles(sizes: &[u64]) -> Vec<Tile> {
        let map = Treemap::from_kinds(&kinds(sizes)).unwrap();
        let area = map
            .tiles
            .iter()
            .map(|tile| tile.width.0 / 100.0 * WIDTH * tile.height);
        let area: f64 = area.sum();
        assert!((area - WIDTH * HEIGHT).abs() < 1.0, "{area}");
        map.tiles
    }

    #[test]
    fn tiles_fill_the_map() {
        for sizes in [
            &[1][..],
            &[5, 5],
            &[9, 1, 0, 3],
            &[u64::MAX, u64::MAX, 1],
            &[1; 121],
        ] {
            tiles(sizes);
        }
        assert_eq!(Treemap::from_kinds(&kinds(&[0, 0])), None);
    }

    #[test]
    fn many_small_kinds_share_a_column() {
        assert_eq!(tiles(&[7; 600]).len(), MIN_TILES + 1);
        let mut sizes = vec![10_000; 100];
        sizes.extend([400; 500]);
        let tiles = tiles(&sizes);
        let rest = tiles.last().unwrap();
        assert_eq!(rest.name, "and 500 more");
        assert_eq!((rest.y, rest.height), (0.0, HEIGHT));
        assert_eq!(tiles.len(), 101);
    }
}
