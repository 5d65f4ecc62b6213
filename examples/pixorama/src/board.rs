//! Board: what is painted, and how two boards become one.
//!
//! Of two strokes on one pixel the later one stays, on every server the same one, in whatever order they arrive. So
//! boards can be merged as often as one likes: after a gap each server sends its own to the others.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{SystemTime, UNIX_EPOCH},
};

use broker::Model;
use serde::{Deserialize, Serialize};

/// Pixels on each side.
pub(crate) const SIDE: usize = 64;
/// How many colours there are, from 0.
pub(crate) const COLOURS: u8 = 16;
/// What an empty board shows: white.
const PAPER: u8 = 15;

/// One pixel, painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Model)]
#[model(name = "pixel-added")]
pub(crate) struct Stroke {
    pub(crate) x: u8,
    pub(crate) y: u8,
    pub(crate) colour: u8,
    pub(crate) when: When,
}

/// When a stroke was made: later ones cover earlier ones, and of two at once that of the greater server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct When {
    /// Milliseconds, by a clock that never falls behind a stroke it has seen.
    pub(crate) at: u64,
    pub(crate) server: u64,
}

/// A whole board on its way to another server: every stroke that is still to be seen.
#[derive(Clone, Debug, Serialize, Deserialize, Model)]
#[model(name = "board")]
pub(crate) struct Picture {
    pub(crate) strokes: Vec<Stroke>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pixels: Vec<(u8, When)>,
    server: u64,
    latest: u64,
}

impl Stroke {
    /// Which pixel it is for. `None` when there is no such pixel or colour.
    pub(crate) fn index(&self) -> Option<u16> {
        let (x, y) = (usize::from(self.x), usize::from(self.y));
        (x < SIDE && y < SIDE && self.colour < COLOURS).then_some((y * SIDE + x) as u16)
    }
}

impl Board {
    /// An empty one, of a server with that number.
    pub(crate) fn new(server: u64) -> Self {
        Self { pixels: vec![(PAPER, When::default()); SIDE * SIDE], server, latest: 0 }
    }

    /// Paints, here and now. `None` when there is no such pixel or colour.
    pub(crate) fn paint(&mut self, x: u8, y: u8, colour: u8) -> Option<Stroke> {
        let when = When { at: now().max(self.latest + 1), server: self.server };
        let stroke = Stroke { x, y, colour, when };
        self.add(&stroke).then_some(stroke)
    }

    /// Adds a stroke from anywhere. Whether it is to be seen: it is one, and no later one covers it.
    pub(crate) fn add(&mut self, stroke: &Stroke) -> bool {
        let Some(index) = stroke.index() else { return false };
        // A clock that is far ahead would win for ever: at most a day of that is believed.
        if stroke.when.at > self.latest.max(now()) + DAY {
            return false;
        }
        self.latest = self.latest.max(stroke.when.at);
        let pixel = &mut self.pixels[usize::from(index)];
        let later = stroke.when > pixel.1;
        if later {
            *pixel = (stroke.colour, stroke.when);
        }
        later
    }

    /// All that is painted, for another server.
    pub(crate) fn picture(&self) -> Picture {
        let stroke = |(index, (colour, when)): (usize, &(u8, When))| Stroke {
            x: (index % SIDE) as u8,
            y: (index / SIDE) as u8,
            colour: *colour,
            when: *when,
        };
        let painted = self.pixels.iter().enumerate().filter(|(_, (_, when))| when.at > 0);
        Picture { strokes: painted.map(stroke).collect() }
    }

    /// The colours, row by row, a byte each: what a browser gets.
    pub(crate) fn colours(&self) -> Vec<u8> {
        self.pixels.iter().map(|(colour, _)| *colour).collect()
    }

    /// The colour of one pixel, which has to be on the board.
    pub(crate) fn colour(&self, index: u16) -> Option<u8> {
        self.pixels.get(usize::from(index)).map(|(colour, _)| *colour)
    }

    /// The same for two boards that are equal.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.pixels.hash(&mut hasher);
        hasher.finish()
    }
}

const DAY: u64 = 24 * 60 * 60 * 1000;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stroke() -> impl Strategy<Value = Stroke> {
        (0..4_u8, 0..2_u8, 0..COLOURS, 1..20_u64, 1..4_u64).prop_map(|(x, y, colour, at, server)| Stroke {
            x,
            y,
            colour,
            when: When { at, server },
        })
    }

    proptest! {
        /// Whatever comes first, and however often: the boards are equal.
        #[test]
        fn boards_with_the_same_strokes_are_equal(
            mut strokes in prop::collection::vec(stroke(), 0..60),
            order in any::<u64>(),
        ) {
            // One server makes one stroke at a time.
            strokes.sort_by_key(|stroke| stroke.when);
            strokes.dedup_by_key(|stroke| stroke.when);
            let (mut one, mut other) = (Board::new(1), Board::new(2));
            strokes.iter().for_each(|stroke| _ = one.add(stroke));
            strokes.sort_by_key(|stroke| (stroke.when.at ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            strokes.iter().chain(strokes.iter().rev()).for_each(|stroke| _ = other.add(stroke));
            prop_assert_eq!(one.colours(), other.colours());
            prop_assert_eq!(one.digest(), other.digest());
            let mut third = Board::new(3);
            one.picture().strokes.iter().for_each(|stroke| _ = third.add(stroke));
            prop_assert_eq!(third.digest(), one.digest());
        }
    }

    #[test]
    fn a_stroke_covers_earlier_strokes_whatever_the_clock() {
        let mut board = Board::new(1);
        let ahead = now() + DAY / 2;
        assert!(board.add(&Stroke { x: 1, y: 1, colour: 3, when: When { at: ahead, server: 2 } }));
        assert!(board.paint(1, 1, 4).is_some_and(|stroke| stroke.when.at > ahead));
        assert_eq!(board.colour(SIDE as u16 + 1), Some(4));
    }

    #[test]
    fn invalid_strokes_are_ignored() {
        let mut board = Board::new(1);
        let empty = board.digest();
        for (x, y, colour) in [(64, 0, 0), (0, 64, 0), (0, 0, 16), (255, 255, 255)] {
            assert_eq!(board.paint(x, y, colour), None);
        }
        assert!(!board.add(&Stroke { x: 0, y: 0, colour: 1, when: When { at: u64::MAX, server: 1 } }));
        assert_eq!(board.digest(), empty);
        assert!(board.colours().iter().all(|colour| *colour == PAPER));
    }

    #[test]
    fn a_whole_board_fits_a_message() {
        let mut board = Board::new(u64::MAX);
        for index in 0..SIDE * SIDE {
            board.paint((index % SIDE) as u8, (index / SIDE) as u8, 12).expect("a pixel");
        }
        let bytes = serde_json::to_vec(&board.picture()).expect("JSON");
        assert!(bytes.len() < broker::Options::default().max_payload, "{} bytes", bytes.len());
    }
}
