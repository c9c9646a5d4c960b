//! The kinds as tiles whose areas are their bytes.

use std::collections::HashMap;

use streemap::{Rect, squarify};

use super::kind_table::KindSize;
use super::values::{KindName, Percent, bytes, count, counted, share};

/// Tiles of kinds; all others share one.
const MAX_TILES: usize = 120;

/// A kind below this share of all bytes has no tile of its own.
const MIN_SHARE: f64 = 0.002;

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
            (width, height) if width >= 64.0 && height >= 44.0 => TileRoom::Medium,
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
        let mut areas = areas(kinds, total);
        squarify(
            Rect::from_size(WIDTH, HEIGHT),
            &mut areas,
            |area| area.size as f64,
            |area, rect| area.rect = rect,
        );
        let tiles = areas.iter().map(|area| tile(area, total, &colours));
        Some(Treemap {
            height: HEIGHT,
            tiles: tiles.collect(),
            legend: colours.legend(kinds),
        })
    }
}

fn total(kinds: &[KindSize]) -> u64 {
    kinds
        .iter()
        .fold(0, |sum, kind| sum.saturating_add(kind.bytes))
}

/// The large kinds, largest first, and then the small ones as one area.
fn areas(kinds: &[KindSize], total: u64) -> Vec<Area<'_>> {
    let mut sorted: Vec<&KindSize> = kinds.iter().filter(|kind| kind.bytes > 0).collect();
    sorted.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
    let least = total as f64 * MIN_SHARE;
    let is_large = |kind: &&&KindSize| kind.bytes as f64 >= least;
    let mut large = sorted.iter().take_while(is_large).count().min(MAX_TILES);
    // One kind alone is not hidden under a name that is no shorter.
    if sorted.len() == large + 1 {
        large += 1;
    }
    let small = sorted.split_off(large);
    let mut areas: Vec<Area<'_>> = sorted
        .into_iter()
        .map(|kind| Area::of(vec![kind]))
        .collect();
    if !small.is_empty() {
        areas.push(Area::of(small));
    }
    areas
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
        sizes.sort_by_key(|&(name, size)| (std::cmp::Reverse(size), name));
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
