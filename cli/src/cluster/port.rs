//! Free ports on the loopback address.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;

use super::error::ClusterError;

/// How many ports from the first one on are tried.
const TRIES: u16 = 200;
/// Where ports without a wish are taken from: below those that Linux gives to outgoing connections. A client that knocks at the port
/// of a stopped server could otherwise be given that very port, and then the server can't have it back.
const ANY_FIRST: u16 = 15_000;
const ANY_COUNT: u16 = 17_000;

/// The wished port when it is free, else the next free one above it. Without a wish: any free one.
pub fn free_port(wished: Option<u16>) -> Result<u16, ClusterError> {
    let first = wished.unwrap_or_else(any);
    let last = first.saturating_add(TRIES);
    (first..=last)
        .find(|port| is_free(*port))
        .ok_or(ClusterError::NoPort { first, last })
}

/// Whether nothing listens on the port now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// A different one in each call, so that processes that look at the same time seldom meet.
fn any() -> u16 {
    let random = RandomState::new().hash_one(std::process::id());
    ANY_FIRST + (random % u64::from(ANY_COUNT)) as u16
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{any, free_port};

    #[test]
    fn a_taken_port_leads_to_the_next_free_one() {
        let port = free_port(None).unwrap();
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(free_port(Some(port)).unwrap() > port);
    }

    #[test]
    fn ports_without_a_wish_lie_below_those_of_outgoing_connections() {
        for _ in 0..1000 {
            assert!((15_000..32_000).contains(&any()));
        }
    }
}
