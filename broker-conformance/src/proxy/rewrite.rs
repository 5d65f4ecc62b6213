//! Rewrite: what a proxy tells its client of the ports of a cluster's members.
//!
//! A server tells its clients where the other members are. A node that has a proxy of its own before each member must
//! not learn of a way around it, as behind an address translation. So the proxy replaces every number that is a member's
//! port, and stands close behind its host, by the port of the proxy before that member. Both have five digits: no length
//! that a protocol gives changes by it. The same number elsewhere is somebody's data.

use std::{net::SocketAddr, sync::Arc};

/// The digits of a port from which a system gives out free ones.
const DIGITS: usize = 5;
/// The host of every member.
const HOST: &[u8] = b"127.0.0.1";
/// The most that is between a host and its port, in all protocols.
const BETWEEN: usize = 16;

type Port = [u8; DIGITS];

/// The ports to replace, and by what.
#[derive(Clone, Debug, Default)]
pub struct Ports(Arc<[(Port, Port)]>);

impl Ports {
    /// Replaces the ports of the first of each pair by those of the second.
    ///
    /// # Errors
    /// One has not five digits.
    pub fn new(pairs: impl IntoIterator<Item = (SocketAddr, SocketAddr)>) -> Result<Self, String> {
        let digits = |addr: SocketAddr| {
            let port = addr.port().to_string().into_bytes();
            Port::try_from(port).map_err(|_| format!("the port of {addr} has not {DIGITS} digits"))
        };
        let pairs = pairs.into_iter().map(|(from, to)| Ok((digits(from)?, digits(to)?)));
        pairs.collect::<Result<Vec<_>, String>>().map(|all| Self(all.into()))
    }
}

/// Rewrites one direction of one connection.
pub(super) struct Rewriter {
    ports: Ports,
    /// Digits that may be the beginning of a port; the rest has not come yet.
    held: Vec<u8>,
    /// Whether the digits that come belong to a longer number.
    long: bool,
    /// How much of the host has just come.
    host: usize,
    /// How many bytes have come since it had.
    since_host: usize,
}

impl Rewriter {
    pub(super) fn new(ports: Ports) -> Self {
        Self { ports, held: Vec::with_capacity(DIGITS), long: false, host: 0, since_host: usize::MAX }
    }

    /// What goes on to the client, of what came from the server. Digits at the end wait for what comes next: every
    /// protocol here ends what it says with something else.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.ports.0.is_empty() {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len() + DIGITS);
        for &byte in bytes {
            self.look_for_host(byte);
            if !byte.is_ascii_digit() {
                self.end_of_number(&mut out);
                out.push(byte);
            } else if self.long {
                out.push(byte);
            } else {
                self.held.push(byte);
                if self.held.len() > DIGITS {
                    out.append(&mut self.held);
                    self.long = true;
                }
            }
        }
        out
    }

    fn look_for_host(&mut self, byte: u8) {
        self.since_host = self.since_host.saturating_add(1);
        self.host = match HOST[self.host] {
            next if next == byte => self.host + 1,
            _ => usize::from(byte == HOST[0]),
        };
        if self.host == HOST.len() {
            (self.host, self.since_host) = (0, 0);
        }
    }

    /// The byte behind it has just come.
    fn end_of_number(&mut self, out: &mut Vec<u8>) {
        let is_near = self.since_host <= BETWEEN + DIGITS + 1;
        let port = self.ports.0.iter().find(|(from, _)| is_near && from[..] == self.held[..]);
        out.extend_from_slice(port.map_or(&self.held[..], |(_, to)| to));
        self.held.clear();
        self.long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(parts: &[&str]) -> String {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ports = Ports::new([(addr(40001), addr(50001)), (addr(40002), addr(50002))]).unwrap();
        let mut rewriter = Rewriter::new(ports);
        let passed: Vec<u8> = parts.iter().flat_map(|part| rewriter.pass(part.as_bytes())).collect();
        String::from_utf8(passed).unwrap()
    }

    #[test]
    fn ports_are_replaced_behind_hosts_wherever_they_are_cut() {
        for [from, to] in [
            ["127.0.0.1\r\n$5\r\n40001\r\n", "127.0.0.1\r\n$5\r\n50001\r\n"],
            ["127.0.0.1\r\n:40002\r\n", "127.0.0.1\r\n:50002\r\n"],
            ["127.0.0.1 40001 127.0.0.1 40002\r\n", "127.0.0.1 50001 127.0.0.1 50002\r\n"],
        ] {
            assert_eq!(passed(&[from]), to);
            assert_eq!(passed(&from.split_inclusive(|_| true).collect::<Vec<_>>()), to);
        }
        assert_eq!(passed(&["-MOVED 7 127.0.0.1:4", "000", "1\r\n"]), "-MOVED 7 127.0.0.1:50001\r\n");
        assert_eq!(
            passed(&["[\"127.0.0.1:40001\",\"127.0.0.1:40002\"]"]),
            "[\"127.0.0.1:50001\",\"127.0.0.1:50002\"]"
        );
    }

    #[test]
    fn other_numbers_pass() {
        for text in [
            "$5\r\n40001\r\n",
            "127.0.0.1\r\n and much later 40001\r\n",
            "127.0.0.2:40001\r\n",
            "127.0.0.1:140001\r\n",
            "140001\r\n",
            "400011\r\n",
            "1764400012345-0\r\n",
            "40003;",
            "x",
            "",
        ] {
            assert_eq!(passed(&[text]), text);
            let cut: Vec<&str> = text.split_inclusive(|_| true).collect();
            assert_eq!(passed(&cut), text);
        }
    }

    #[test]
    fn a_port_of_another_length_is_refused() {
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(Ports::new([(addr(6379), addr(50001))]).unwrap_err().contains("6379"));
    }
}
