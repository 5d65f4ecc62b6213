//! Names: which channels the link is subscribed to, and so which channels of NOTIFY it listens to.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use broker_core::ChannelName;

use crate::piece::{BUCKETS, bucket, hash};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<Table>);

#[derive(Debug)]
struct Table {
    names: HashSet<ChannelName>,
    /// How many of the names have this hash: mostly one.
    hashes: HashMap<u64, usize>,
    /// How many of the names come by each channel of NOTIFY.
    buckets: [usize; BUCKETS as usize],
}

impl Default for Table {
    fn default() -> Self {
        Self { names: HashSet::new(), hashes: HashMap::new(), buckets: [0; BUCKETS as usize] }
    }
}

impl Names {
    /// The channels of NOTIFY that carry these, each once.
    pub(crate) fn buckets_of(channels: &[ChannelName]) -> Vec<u8> {
        let mut buckets: Vec<u8> = channels.iter().map(|channel| bucket(hash(channel.as_str()))).collect();
        buckets.sort_unstable();
        buckets.dedup();
        buckets
    }

    pub(crate) fn add(&self, channels: &[ChannelName]) {
        let mut table = self.table();
        for channel in channels {
            if table.names.insert(channel.clone()) {
                let hash = hash(channel.as_str());
                *table.hashes.entry(hash).or_default() += 1;
                table.buckets[usize::from(bucket(hash))] += 1;
            }
        }
    }

    /// Removes names, and returns the channels of NOTIFY that none comes by any more.
    pub(crate) fn remove(&self, channels: &[ChannelName]) -> Vec<u8> {
        let (mut table, mut empty) = (self.table(), Vec::new());
        for channel in channels {
            if table.names.remove(channel) {
                let hash = hash(channel.as_str());
                if let Some(count) = table.hashes.get_mut(&hash) {
                    *count -= 1;
                    if *count == 0 {
                        table.hashes.remove(&hash);
                    }
                }
                let count = &mut table.buckets[usize::from(bucket(hash))];
                *count -= 1;
                if *count == 0 {
                    empty.push(bucket(hash));
                }
            }
        }
        empty
    }

    /// Whether a channel of this hash is subscribed.
    pub(crate) fn has(&self, hash: u64) -> bool {
        self.table().hashes.contains_key(&hash)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_left_with_its_last_name() {
        let names: Vec<ChannelName> =
            (0..200).map(|number| ChannelName::new(format!("room.{number}")).unwrap()).collect();
        let table = Names::default();
        table.add(&names);
        // Subscribed twice is subscribed once.
        table.add(&names[..100]);
        assert_eq!(Names::buckets_of(&names).len(), usize::from(BUCKETS));
        assert!(names.iter().all(|name| table.has(hash(name.as_str()))));
        assert!(!table.has(hash("room.200")));
        let mut left: Vec<u8> =
            names.iter().flat_map(|name| table.remove(std::slice::from_ref(name))).collect();
        left.sort_unstable();
        assert_eq!(left, (0..BUCKETS).collect::<Vec<_>>());
        assert!(table.remove(&names).is_empty());
        assert!(!names.iter().any(|name| table.has(hash(name.as_str()))));
    }
}
