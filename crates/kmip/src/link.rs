//! The client's shell: connections that stay, over TCP and TLS, and the work that they share.
//!
//! A [`Pool`] keeps a few connections to each instance of one server. Work waits in one queue, in
//! classes; whichever connection has room takes the next piece and sends it without waiting for
//! earlier answers. While no instance can be reached work is refused at once, and connections are
//! tried again by themselves, at growing intervals. A server that is our own child is reached over
//! Unix sockets, without TLS; all else is the same ([`Local`]).
//!
//! Time is counted by tokio's clock, for timeouts and intervals only.

mod dial;
mod pool;
mod queue;
mod serve;
mod settings;
mod status;
mod tls;

pub use dial::{DialError, ServerInfo, probe};
pub use pool::Pool;
pub use queue::{CLASSES, Call, Done, NotSent, Outcome};
pub use settings::{Endpoint, Identity, LinkSettings, Local, Timeouts, Trust};
pub use status::{InstanceStatus, Reach, Statistics};
pub use tls::{BadTls, certificate_digest, show_digest};
