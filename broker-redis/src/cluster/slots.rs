//! SlotMap: which master serves which slot, as a member of the cluster says; and the slot of a name.

use broker_core::driver::ServerAddr;
use redis::{Value, from_redis_value};

use crate::address::is_host;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;
/// With more masters a reply is none: a cluster has about a thousand members at most.
const MASTERS: usize = 1_000;

/// The slot of a name: of the part in its first pair of braces, or of all of it.
pub(crate) fn slot_of(name: &str) -> u16 {
    let inside = name.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let hashed = inside.map(|(tag, _)| tag).filter(|tag| !tag.is_empty()).unwrap_or(name);
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Slots that follow each other, and the number of their master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: usize,
}

/// Which master serves which slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotMap {
    /// In order, and none over another.
    ranges: Vec<Range>,
    masters: Vec<ServerAddr>,
}

impl SlotMap {
    /// From the reply to `CLUSTER SLOTS` of the member that was `asked`. `None`: it is not one.
    pub(crate) fn read(reply: Value, asked: &ServerAddr) -> Option<Self> {
        let Value::Array(rows) = reply else { return None };
        let mut map = Self::default();
        for row in rows.into_iter().take(usize::from(SLOTS)) {
            let Value::Array(row) = row else { return None };
            let mut fields = row.into_iter();
            let mut slot = || from_redis_value::<u16>(fields.next()?).ok().filter(|slot| *slot < SLOTS);
            let (first, last) = (slot()?, slot()?);
            let server = server(fields.next()?, asked)?;
            let known = map.masters.iter().position(|known| *known == server);
            let master = known.unwrap_or(map.masters.len());
            if known.is_none() {
                // Here, for each of them is compared with every row.
                if map.masters.len() == MASTERS {
                    return None;
                }
                map.masters.push(server);
            }
            map.ranges.push(Range { first, last, master });
        }
        map.ranges.sort_unstable_by_key(|range| range.first);
        let ordered = map.ranges.windows(2).all(|pair| pair[0].last < pair[1].first);
        let sound = ordered && map.ranges.iter().all(|range| range.first <= range.last);
        sound.then_some(map)
    }

    /// The master that serves a slot, if one does.
    pub(crate) fn owner(&self, slot: u16) -> Option<&ServerAddr> {
        let after = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        (slot <= range.last).then(|| &self.masters[range.master])
    }

    /// Every master that serves slots.
    pub(crate) fn masters(&self) -> &[ServerAddr] {
        &self.masters
    }

    /// How many slots each master serves.
    pub(crate) fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.masters.len()];
        for range in &self.ranges {
            counts[range.master] += usize::from(range.last - range.first) + 1;
        }
        counts
    }

    /// How many slots no master serves.
    pub(crate) fn without_owner(&self) -> usize {
        usize::from(SLOTS) - self.counts().iter().sum::<usize>()
    }
}

/// The server of a row: an endpoint and a port. A member that does not know its own name means the one that we use.
fn server(node: Value, asked: &ServerAddr) -> Option<ServerAddr> {
    let Value::Array(node) = node else { return None };
    let mut fields = node.into_iter();
    let endpoint: Option<String> = from_redis_value(fields.next()?).ok()?;
    let port = from_redis_value(fields.next()?).ok().filter(|port| *port > 0)?;
    let host = match endpoint.as_deref() {
        None | Some("") => asked.host.clone(),
        // It prefers a host name and has none; the address stands behind.
        Some("?") => address(fields.nth(1)?)?,
        Some(host) => host.to_owned(),
    };
    is_host(&host).then(|| ServerAddr::new(host, port))
}

/// The entry `ip` of what else a member says of itself.
fn address(more: Value) -> Option<String> {
    let pairs: Vec<String> = match more {
        Value::Map(pairs) => pairs
            .into_iter()
            .flat_map(|(key, value)| [key, value])
            .map(from_redis_value)
            .collect::<Result<_, _>>(),
        other => from_redis_value(other),
    }
    .ok()?;
    pairs.chunks_exact(2).find(|pair| pair[0] == "ip").map(|pair| pair[1].clone())
}

/// Where a reply `MOVED` or `ASK` sends us: `host:port`, from the member that was `asked`.
pub(crate) fn redirect(place: &str, asked: &ServerAddr) -> Option<ServerAddr> {
    let (host, port) = place.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() || host == "?" { asked.host.as_str() } else { host };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host(host).then(|| ServerAddr::new(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> ServerAddr {
        ServerAddr::new("example.net", 7000)
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn row(first: i64, last: i64, endpoint: Value, port: i64) -> Value {
        let ip = Value::Map(vec![(text("ip"), text("10.0.0.9"))]);
        let node = Value::Array(vec![endpoint, Value::Int(port), text("id"), ip]);
        Value::Array(vec![Value::Int(first), Value::Int(last), node])
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of("123456789"), 0x31c3);
        assert_eq!(slot_of("$revocations"), 2709);
        assert_eq!(slot_of("{user1000}.following"), slot_of("user1000"));
        assert_eq!(slot_of("foo{bar}{zap}"), slot_of("bar"));
        assert_eq!(slot_of("foo{{bar}}zap"), slot_of("{bar"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
    }

    #[test]
    fn owners_are_found_by_range() {
        let rows = vec![
            row(8192, 16383, text("10.0.0.2"), 2),
            row(0, 4095, text("10.0.0.1"), 1),
            row(4097, 8191, text("10.0.0.2"), 2),
        ];
        let map = SlotMap::read(Value::Array(rows), &asked()).unwrap();
        let owner = |slot| map.owner(slot).map(ToString::to_string);
        assert_eq!(owner(0).as_deref(), Some("10.0.0.1:1"));
        assert_eq!(owner(4095).as_deref(), Some("10.0.0.1:1"));
        assert_eq!(owner(4096), None);
        assert_eq!(owner(16383).as_deref(), Some("10.0.0.2:2"));
        assert_eq!(map.masters().len(), 2);
        assert_eq!(map.counts().iter().sum::<usize>(), 16383);
        assert_eq!(SlotMap::default().owner(0), None);
    }

    #[test]
    fn a_member_without_a_name_has_the_one_that_was_asked() {
        for (endpoint, host) in [
            (Value::Nil, "example.net"),
            (text(""), "example.net"),
            (text("?"), "10.0.0.9"),
            (text("::1"), "::1"),
        ] {
            let map = SlotMap::read(Value::Array(vec![row(0, 1, endpoint, 5)]), &asked()).unwrap();
            assert_eq!(map.masters(), [ServerAddr::new(host, 5)]);
        }
        let to = |place| redirect(place, &asked()).map(|server| server.to_string());
        assert_eq!(to("10.0.0.1:6379").as_deref(), Some("10.0.0.1:6379"));
        assert_eq!(to("::1:6379").as_deref(), Some("[::1]:6379"));
        assert_eq!(to(":6381").as_deref(), Some("example.net:6381"));
        for nowhere in ["nowhere", "a b:1", "\u{1b}[2J:1", "10.0.0.1:0", "10.0.0.1:65536"] {
            assert_eq!(to(nowhere), None);
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for rows in [
            vec![Value::Int(1)],
            vec![row(0, 16384, text("a"), 1)],
            vec![row(5, 4, text("a"), 1)],
            vec![row(-1, 4, text("a"), 1)],
            vec![row(0, 4, text("a"), 0)],
            vec![row(0, 4, text("a"), 1), row(4, 5, text("b"), 1)],
            vec![Value::Array(vec![Value::Int(0), Value::Int(1)])],
            vec![row(0, 4, text("a\u{1b}[2J"), 1)],
            vec![row(0, 4, text("a/b@c"), 1)],
            vec![row(0, 4, text(&"a".repeat(300)), 1)],
        ] {
            assert_eq!(SlotMap::read(Value::Array(rows.clone()), &asked()), None, "{rows:?}");
        }
        assert_eq!(SlotMap::read(Value::Nil, &asked()), None);
    }
}
