//! DNS messages on the wire: reading, composing, EDNS, cookies, TSIG, framing, access lists.
//!
//! Everything here works on octets and arguments; sockets and clocks belong to the callers.
//! Nothing that arrives in a message can make these functions panic.

pub mod acl;
pub mod composer;
pub mod cookie;
pub mod edns;
pub mod frame;
pub mod reader;
pub mod request;
pub mod tsig;

pub use acl::{Acl, AclEntry, AclError, AclWarning};
pub use composer::{Composer, Full, Section};
pub use edns::{Ede, Edns};
pub use reader::{Header, Message, NameBuf, RecordView, WireError, flag, opcode, rcode};
pub use request::{BadRequest, Malformed, Request};
pub use tsig::{Algorithm, ClientTsig, ServerTsig, TsigError, TsigKey, TsigKeys, TsigRefusal};
