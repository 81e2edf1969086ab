//! What long-running programs share: their log's lines and where these go, the service manager,
//! descriptors that were passed to them, and the machine's clocks.

pub mod clock;
pub mod fds;
pub mod log;
pub mod systemd;
