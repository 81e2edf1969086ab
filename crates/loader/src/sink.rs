//! Where parsed records go.

use cascade_zone::{RecordBatch, Rtype};

/// Receives the records of one chunk, in file order.
pub trait RecordSink {
    /// So many octets of text will be parsed into this sink. A hint, to make room at once.
    fn expect(&mut self, _octets: usize) {}
    /// Sets the owner of the records that follow. `key`: order key below the apex; `case`: spelling.
    fn owner(&mut self, key: &[u8], case: Option<&[u8]>);
    /// One record: checked, uncompressed RDATA. `loc`: its line in the load's space of lines.
    ///
    /// # Errors
    /// The sink can hold no more.
    fn record(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8], loc: u32) -> Result<(), Full>;
}

/// A sink can hold no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// One record as parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedRecord {
    pub key: Vec<u8>,
    pub case: Option<Vec<u8>>,
    pub rtype: Rtype,
    pub ttl: u32,
    pub rdata: Vec<u8>,
    pub loc: u32,
}

/// A plain list of records, for tools and tests; a zone goes into the store's batches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordList {
    pub records: Vec<ParsedRecord>,
    owner: (Vec<u8>, Option<Vec<u8>>),
}

impl RecordSink for RecordList {
    fn owner(&mut self, key: &[u8], case: Option<&[u8]>) {
        self.owner = (key.to_vec(), case.map(<[u8]>::to_vec));
    }

    fn record(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8], loc: u32) -> Result<(), Full> {
        let (key, case) = self.owner.clone();
        self.records.push(ParsedRecord {
            key,
            case,
            rtype,
            ttl,
            rdata: rdata.to_vec(),
            loc,
        });
        Ok(())
    }
}

/// Only the records that a signer would make: RRSIG, NSEC, NSEC3, and its sets at the apex.
#[derive(Debug, Clone, Default)]
pub(crate) struct DnssecList(pub RecordList);

impl RecordSink for DnssecList {
    fn owner(&mut self, key: &[u8], case: Option<&[u8]>) {
        self.0.owner(key, case);
    }

    fn record(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8], loc: u32) -> Result<(), Full> {
        let at_apex = self.0.owner.0.is_empty() && rtype.is_signer_apex();
        match at_apex || rtype.is_denial_or_signature() {
            true => self.0.record(rtype, ttl, rdata, loc),
            false => Ok(()),
        }
    }
}

/// Most room made ahead for one piece of a file.
const MAX_AHEAD: usize = 16 << 20;

impl RecordSink for RecordBatch {
    fn expect(&mut self, octets: usize) {
        // Text and batch are about the same size; a line has seldom less than 40 octets.
        let octets = octets.min(MAX_AHEAD);
        self.reserve(octets, octets / 40);
    }

    #[inline]
    fn owner(&mut self, key: &[u8], case: Option<&[u8]>) {
        RecordBatch::owner(self, key, case);
    }

    #[inline]
    fn record(&mut self, rtype: Rtype, ttl: u32, rdata: &[u8], loc: u32) -> Result<(), Full> {
        self.push(rtype, ttl, rdata, loc).map_err(|_| Full)
    }
}
