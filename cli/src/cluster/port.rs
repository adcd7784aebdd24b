//! Free ports on the loopback address.

use std::net::TcpListener;

use super::error::ClusterError;

/// How many ports above the wished one are tried.
const TRIES: u16 = 100;

/// The wished port when it is free, else the next free one above it. Without a wish: any free one.
pub fn free_port(wished: Option<u16>) -> Result<u16, ClusterError> {
    let first = wished.unwrap_or(0);
    let last = if wished.is_some() {
        first.saturating_add(TRIES)
    } else {
        0
    };
    (first..=last)
        .find_map(|port| {
            TcpListener::bind(("127.0.0.1", port))
                .and_then(|listener| listener.local_addr())
                .ok()
        })
        .map(|address| address.port())
        .ok_or(ClusterError::NoPort { first, last })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::free_port;

    #[test]
    fn a_taken_port_leads_to_the_next_free_one() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(free_port(Some(port)).unwrap() > port);
    }

    #[test]
    fn without_a_wish_any_port_will_do() {
        assert_ne!(free_port(None).unwrap(), 0);
    }
}
