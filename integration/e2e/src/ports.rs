//! Ports of the loopback interface that nobody else uses.

use std::fs::{self, File, TryLockError};
use std::net::{TcpListener, UdpSocket};
use std::process;

/// Below the kernel's range for outgoing connections, so that no client's port is in the way.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// Distinct ports, free for UDP and TCP when they were taken. Tests run in parallel, so each port
/// is held by a lock on a file until this value goes away.
#[derive(Debug)]
pub struct Ports {
    numbers: Vec<u16>,
    _locks: Vec<File>,
}

impl Ports {
    /// # Panics
    /// When the machine has not so many free ports.
    pub fn take(count: usize) -> Ports {
        let folder = std::env::temp_dir().join("cascade-e2e-ports");
        fs::create_dir_all(&folder).expect("the temporary directory is writable");
        let mut ports = Ports {
            numbers: Vec::new(),
            _locks: Vec::new(),
        };
        // Processes begin at different places; 7919 is prime, so neighbours end up far apart.
        let start = (process::id() as u64 * 7919 % u64::from(COUNT)) as u16;
        for offset in 0..COUNT {
            let port = FIRST + (start + offset) % COUNT;
            if ports.numbers.len() == count {
                break;
            }
            let path = folder.join(port.to_string());
            let Ok(lock) = File::options().create(true).append(true).open(path) else {
                continue;
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => continue,
            }
            let free = TcpListener::bind(("127.0.0.1", port)).is_ok()
                && UdpSocket::bind(("127.0.0.1", port)).is_ok();
            if free {
                ports.numbers.push(port);
                ports._locks.push(lock);
            }
        }
        assert_eq!(ports.numbers.len(), count, "not enough free ports");
        ports
    }

    pub fn get(&self, index: usize) -> u16 {
        self.numbers[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_held() {
        let first = Ports::take(5);
        let second = Ports::take(5);
        let mut all: Vec<u16> = first
            .numbers
            .iter()
            .chain(&second.numbers)
            .copied()
            .collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10);
    }
}
