//! Log: one file for each, appended to and written through. The whole log is in memory as well.
//!
//! A cursor is the log's identity, a number in the sequence, and the random tag of the record with that number. The
//! tag reveals a log that was rolled back and has grown past the cursor again.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A page has at most this many records, and ends with the one that makes it this long.
const PAGE: (usize, usize) = (1000, 256 << 10);

pub(crate) struct Logs {
    data: PathBuf,
    open: BTreeMap<String, Log>,
}

struct Log {
    path: PathBuf,
    file: File,
    identity: u64,
    /// Where the last record stood that was dropped; at first, before the first one.
    base: Place,
    records: VecDeque<Record>,
}

#[derive(Clone, Copy, PartialEq)]
struct Place {
    number: u64,
    tag: u64,
}

struct Record {
    place: Place,
    /// Milliseconds since 1970.
    at: u128,
    bytes: Vec<u8>,
}

impl Logs {
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        fs::create_dir_all(data)?;
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(data)?.flatten() {
            // A file that was being rewritten has another ending.
            if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".log")) {
                open.insert(name.to_owned(), Log::load(entry.path())?);
            }
        }
        Ok(Self { data: data.to_owned(), open })
    }

    /// Stores a record. Returns whether the log had to be made.
    pub(crate) fn append(&mut self, name: &str, retention: Duration, bytes: Vec<u8>) -> io::Result<bool> {
        let (log, created) = self.log(name)?;
        log.append(bytes)?;
        log.expire(retention)?;
        Ok(created)
    }

    /// One page after a cursor, as an answer of the protocol.
    pub(crate) fn read(
        &mut self,
        name: &str,
        retention: Duration,
        cursor: Option<&str>,
    ) -> io::Result<Vec<u8>> {
        let (log, created) = self.log(name)?;
        log.expire(retention)?;
        Ok(log.page(cursor, created))
    }

    fn log(&mut self, name: &str) -> io::Result<(&mut Log, bool)> {
        // A name may have characters that a file name cannot.
        let encoded = hex(name.as_bytes());
        let created = !self.open.contains_key(&encoded);
        if created {
            let log = Log::create(self.data.join(format!("{encoded}.log")))?;
            self.open.insert(encoded.clone(), log);
        }
        let log = self.open.get_mut(&encoded).ok_or(io::ErrorKind::NotFound)?;
        Ok((log, created))
    }

    /// Deletes all logs.
    pub(crate) fn wipe(&mut self) -> io::Result<()> {
        let open = std::mem::take(&mut self.open);
        open.values().try_for_each(|log| fs::remove_file(&log.path))
    }

    /// Drops the records of all logs, and keeps the logs.
    pub(crate) fn trim(&mut self) -> io::Result<()> {
        self.open.values_mut().try_for_each(|log| log.drop_oldest(log.records.len()))
    }
}

impl Log {
    fn create(path: PathBuf) -> io::Result<Self> {
        let base = Place { number: 0, tag: random() };
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let mut log = Self { path, file, identity: random(), base, records: VecDeque::new() };
        log.rewrite()?;
        Ok(log)
    }

    fn load(path: PathBuf) -> io::Result<Self> {
        let text = fs::read_to_string(&path)?;
        // A line without an end was being written when the server was killed, and no answer said that it is
        // stored.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = whole.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let bad = || io::Error::other(format!("{} is no log", path.display()));
        let head = lines.next().ok_or_else(bad)?;
        let [identity, number, tag] = head[..] else { return Err(bad()) };
        let place = |number: &str, tag: &str| {
            Some(Place { number: number.parse().ok()?, tag: u64::from_str_radix(tag, 16).ok()? })
        };
        let base = place(number, tag).ok_or_else(bad)?;
        let identity = u64::from_str_radix(identity, 16).map_err(|_| bad())?;
        let record = |words: Vec<&str>| {
            let [number, tag, at, bytes] = words[..] else { return None };
            Some(Record { place: place(number, tag)?, at: at.parse().ok()?, bytes: unhex(bytes)? })
        };
        let records = lines.map(|words| record(words).ok_or_else(bad)).collect::<io::Result<_>>()?;
        let file = OpenOptions::new().append(true).open(&path)?;
        let mut log = Self { path, file, identity, base, records };
        log.rewrite()?;
        Ok(log)
    }

    fn last(&self) -> Place {
        self.records.back().map_or(self.base, |record| record.place)
    }

    fn append(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let place = Place { number: self.last().number + 1, tag: random() };
        let record = Record { place, at: now(), bytes };
        let written = self.file.write_all(record.line().as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line may be in the file.
            self.rewrite()?;
            return Err(error);
        }
        self.records.push_back(record);
        Ok(())
    }

    fn expire(&mut self, retention: Duration) -> io::Result<()> {
        let oldest = now().saturating_sub(retention.as_millis());
        let expired = self.records.iter().take_while(|record| record.at < oldest).count();
        if expired > 0 { self.drop_oldest(expired) } else { Ok(()) }
    }

    fn drop_oldest(&mut self, count: usize) -> io::Result<()> {
        if let Some(last) = self.records.drain(..count).next_back() {
            self.base = last.place;
        }
        self.rewrite()
    }

    /// Puts a new file in the place of the old one.
    fn rewrite(&mut self) -> io::Result<()> {
        let Place { number, tag } = self.base;
        let mut text = format!("{:x} {number} {tag:x}\n", self.identity);
        text.extend(self.records.iter().map(Record::line));
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(())
    }

    fn page(&self, cursor: Option<&str>, created: bool) -> Vec<u8> {
        let (skipped, broken) = match cursor.map_or(Ok(0), |cursor| self.find(cursor)) {
            Ok(skipped) => (skipped, "-"),
            Err(broken) => (0, broken),
        };
        let (mut body, mut count) = (Vec::new(), 0);
        for record in self.records.iter().skip(skipped).take(PAGE.0) {
            if body.len() >= PAGE.1 {
                break;
            }
            body.extend_from_slice(format!("{}\n", record.bytes.len()).as_bytes());
            body.extend_from_slice(&record.bytes);
            count += 1;
        }
        let end = (skipped + count).checked_sub(1).map_or(self.base, |last| self.records[last].place);
        let more = u8::from(skipped + count < self.records.len());
        let (identity, Place { number, tag }) = (self.identity, end);
        let created = u8::from(created);
        let head = format!("PAGE {identity:x}/{number}/{tag:x} {more} {broken} {created} {count}\n");
        [head.into_bytes(), body].concat()
    }

    /// How many of the records stand before a cursor; or why that is not known.
    fn find(&self, cursor: &str) -> Result<usize, &'static str> {
        let words: Vec<&str> = cursor.split('/').collect();
        let [identity, number, tag] = words[..] else { return Err("replaced") };
        if identity != format!("{:x}", self.identity) {
            return Err("replaced");
        }
        let number: u64 = number.parse().map_err(|_| "replaced")?;
        let skipped = number.checked_sub(self.base.number).ok_or("trimmed")?;
        let skipped = usize::try_from(skipped).map_err(|_| "rolled-back")?;
        let place = match skipped.checked_sub(1) {
            None => self.base,
            Some(last) => self.records.get(last).ok_or("rolled-back")?.place,
        };
        if tag == format!("{:x}", place.tag) { Ok(skipped) } else { Err("rolled-back") }
    }
}

impl Record {
    fn line(&self) -> String {
        let Place { number, tag } = self.place;
        format!("{number} {tag:x} {} {}\n", self.at, hex(&self.bytes))
    }
}

fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
    Some(digits?.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
