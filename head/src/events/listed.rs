//! Which segments there are to be: a file beside their directory, so that the loss of one is seen, and of
//! the whole directory too.
//!
//! ```text
//! 1-5 7            the numbers of what is there
//! lost 6 MS        a number that was found missing, and when
//! end 7 BYTES      the last one was durable up to there when this was written
//! cut 5 BYTES MS   one of which the end was found missing: how much had been durable, and when it was found
//! crc HEX          CRC-32C of what stands above
//! ```
//! IMPORTANT: a segment is made before it is listed, and goes out of the list before it is removed, so that
//! a listed one that is not there is always a loss. A head of before this file has none: it is made at the
//! next start, of what is there then.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

use orchestra_config::durable::{self, Access};
use orchestra_types::Timestamp;

use super::segment::Name;
use crate::points;

const EXTENSION: &str = "listed";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub present: BTreeSet<u64>,
    /// What was found missing, and when; until what came after it goes for its age.
    pub lost: BTreeMap<u64, Timestamp>,
    /// How much of the last one was durable at a start, or at a clean end.
    pub end: Option<(u64, u32)>,
    /// Those of which the end was found missing.
    pub cut: BTreeMap<u64, Cut>,
}

/// A segment whose end is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// How much of it had been durable.
    pub durable: u32,
    pub noted: Timestamp,
}

impl Listed {
    /// The list of the segments in `root`; none where there is none, or one that does not read.
    pub fn read(root: &Path) -> io::Result<Option<Self>> {
        match fs::read_to_string(path(root)) {
            Ok(text) => Ok(parse(&text)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Makes it durable.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        points::reach("events.listed")?;
        durable::write(&path(root), self.text().as_bytes(), Access::Private)
    }

    /// So much of a segment was durable, at least. One that was written anew is another one.
    pub fn durable(&self, name: Name) -> u32 {
        if name.generation > 0 {
            return 0;
        }
        let cut = self.cut.get(&name.number).map(|cut| cut.durable);
        let end = self.end.filter(|(number, _)| *number == name.number);
        cut.max(end.map(|(_, bytes)| bytes)).unwrap_or(0)
    }

    /// What readers are told of ends that are missing.
    pub fn noted_cuts(&self) -> BTreeMap<u64, Timestamp> {
        let cuts = self.cut.iter();
        cuts.map(|(number, cut)| (*number, cut.noted)).collect()
    }

    /// What is lost, where `found` is what there is.
    pub fn missing(&self, found: &BTreeSet<u64>) -> BTreeSet<u64> {
        let lost = self.lost.keys();
        let mut missing: BTreeSet<u64> = lost.copied().collect();
        // A head that makes no list went on from there and may have removed some: it says nothing.
        if found.last() <= self.present.last().map(|last| last + 1).as_ref() {
            missing.extend(&self.present);
        }
        missing.retain(|number| !found.contains(number));
        missing
    }

    /// The list for what was found at a start; what is missing of it stays noted.
    pub fn renewed(&self, found: &BTreeSet<u64>, now: Timestamp) -> Self {
        let missing = self.missing(found).into_iter();
        let noted = |number| *self.lost.get(&number).unwrap_or(&now);
        Self {
            present: found.clone(),
            lost: missing.map(|number| (number, noted(number))).collect(),
            end: None,
            cut: BTreeMap::new(),
        }
    }

    fn text(&self) -> String {
        let mut text = ranges(&self.present) + "\n";
        for (number, noted) in &self.lost {
            let _never_fails = writeln!(text, "lost {number} {}", noted.0);
        }
        if let Some((number, bytes)) = self.end {
            let _never_fails = writeln!(text, "end {number} {bytes}");
        }
        for (number, cut) in &self.cut {
            let _never_fails = writeln!(text, "cut {number} {} {}", cut.durable, cut.noted.0);
        }
        let crc = crc32c::crc32c(text.as_bytes());
        text + &format!("crc {crc:08x}\n")
    }
}

/// Where the list of the segments in `root` lies.
pub(super) fn path(root: &Path) -> PathBuf {
    root.with_extension(EXTENSION)
}

fn parse(text: &str) -> Option<Listed> {
    let (body, crc) = text.split_at_checked(text.rfind("crc ")?)?;
    let crc = u32::from_str_radix(crc.strip_prefix("crc ")?.trim_end(), 16).ok()?;
    if crc32c::crc32c(body.as_bytes()) != crc {
        return None;
    }
    let mut lines = body.lines();
    let mut listed = Listed::default();
    for range in lines.next()?.split_whitespace() {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        listed
            .present
            .extend(from.parse::<u64>().ok()?..=to.parse().ok()?);
    }
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["lost", number, noted] => {
                let noted = Timestamp(noted.parse().ok()?);
                listed.lost.insert(number.parse().ok()?, noted);
            }
            ["end", number, bytes] => {
                listed.end = Some((number.parse().ok()?, bytes.parse().ok()?));
            }
            ["cut", number, bytes, noted] => {
                let cut = Cut {
                    durable: bytes.parse().ok()?,
                    noted: Timestamp(noted.parse().ok()?),
                };
                listed.cut.insert(number.parse().ok()?, cut);
            }
            _ => return None,
        }
    }
    Some(listed)
}

fn ranges(numbers: &BTreeSet<u64>) -> String {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, to)) if *to + 1 == *number => *to = *number,
            Some(_) | None => ranges.push((*number, *number)),
        }
    }
    let words = ranges.iter().map(|(from, to)| match from == to {
        true => from.to_string(),
        false => format!("{from}-{to}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        Listed {
            present: [1, 2, 3, 7, 9, 10].into(),
            lost: [(5, Timestamp(70))].into(),
            end: Some((10, 600)),
            cut: [(3, CUT)].into(),
        }
    }

    const CUT: Cut = Cut {
        durable: 500,
        noted: Timestamp(80),
    };

    #[test]
    fn a_list_comes_back_and_a_flipped_bit_anywhere_is_seen() {
        let text = listed().text();
        let body = "1-3 7 9-10\nlost 5 70\nend 10 600\ncut 3 500 80\ncrc ";
        assert!(text.starts_with(body), "{text}");
        assert_eq!(parse(&text), Some(listed()));
        assert_eq!(parse(&Listed::default().text()), Some(Listed::default()));
        for at in 0..text.len() - 1 {
            let mut flipped = text.clone().into_bytes();
            flipped[at] ^= 4;
            let flipped = String::from_utf8(flipped).unwrap();
            assert_eq!(parse(&flipped), None, "a flipped bit in byte {at}");
        }
    }

    #[test]
    fn how_much_was_durable_is_known_of_the_last_one_and_of_those_that_were_cut() {
        let durable = |number, generation| listed().durable(Name { number, generation });
        assert_eq!(
            [durable(10, 0), durable(3, 0), durable(9, 0)],
            [600, 500, 0]
        );
        assert_eq!(durable(3, 1), 0, "it was written anew of what was there");
        assert_eq!(listed().noted_cuts(), [(3, Timestamp(80))].into());
    }

    #[test]
    fn what_is_listed_and_not_there_is_lost_until_it_is_put_back() {
        let found = BTreeSet::from([1, 3, 7, 9, 10]);
        assert_eq!(listed().missing(&found), [2, 5].into());
        let next = listed().renewed(&found, Timestamp(90));
        assert_eq!(next.present, found);
        assert_eq!(next.lost, [(2, Timestamp(90)), (5, Timestamp(70))].into());
        let back = next.renewed(&[1, 2, 3, 5, 7, 9, 10].into(), Timestamp(99));
        assert_eq!(back.lost, [].into());
        assert_eq!(listed().missing(&[].into()).len(), 7);
        // One more may be there that was made before a crash; of two, a head without a list has made one.
        assert_eq!(listed().missing(&[10, 11].into()).len(), 6);
        assert_eq!(listed().missing(&[10, 11, 12].into()), [5].into());
    }
}
