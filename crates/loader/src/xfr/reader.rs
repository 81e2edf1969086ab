//! The messages of a transfer, one by one, to a whole zone or to differences.
//!
//! RFC 5936 §2.2 and RFC 1995 §4. Whatever is wrong ends the transfer with an error that names it;
//! the records so far go with the reader.

use std::collections::BTreeMap;

use cascade_time::Timestamp;
use cascade_wire::reader::{CLASS_IN, RecordView};
use cascade_wire::{Message, NameBuf, flag};
use cascade_zone::rdata::check_wire;
use cascade_zone::{Name, RecordBatch, Rtype, Serial, SoaFields, canon, key};

use super::delta::Delta;
use super::error::XfrError;
use super::probe::{check_header, is_question, refused};
use super::query::Query;
use crate::sink::RecordSink;
use crate::zonemd::{AsReceived, ZonemdCheck};

/// Octets of records in one batch: so large that batches are worth a task each.
const BATCH: usize = 16 << 20;
/// Largest record: a message less its header and the smallest question (RFC 1035 §4.2.2).
const MAX_RR: usize = 65_535 - 12 - 5;

/// How records are taken.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Drop the records that a signer makes (off for pass-through).
    pub strip: bool,
    /// TTLs above are lowered (`signer.max-ttl`).
    pub max_ttl: Option<u32>,
    /// Most octets of all messages (`loader.max-size`); 0 is unlimited.
    pub max_size: u64,
    /// Most records (`loader.max-records`); 0 is unlimited.
    pub max_records: u64,
    /// The source's own digest (`loader.zonemd`): not off, and records are kept as received.
    pub zonemd: ZonemdCheck,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions {
            strip: true,
            max_ttl: None,
            max_size: 0,
            max_records: 0,
            zonemd: ZonemdCheck::Off,
        }
    }
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub octets: u64,
    pub messages: u64,
    /// As received, before anything was dropped; the closing SOA is not counted.
    pub records: u64,
    /// Records dropped because a signer makes its own, by type number.
    pub stripped: BTreeMap<u16, u64>,
    /// TTLs above 2^31 - 1, used as 0 (RFC 2181 §8), and TTLs lowered to `signer.max-ttl`.
    pub ttl_range: u64,
    pub ttl_lowered: u64,
}

/// What a transfer brought.
#[derive(Debug)]
pub enum Received {
    /// Answer to IXFR: the primary's serial, which is ours or an older one.
    UpToDate(Serial),
    /// Answer to IXFR: the primary has a newer serial and no differences. Ask for the whole zone.
    NoDifferences(Serial),
    Full(Full),
    Delta(Delta),
}

/// A whole zone.
#[derive(Debug)]
pub struct Full {
    pub serial: Serial,
    pub batches: Vec<RecordBatch>,
    pub tally: Tally,
    /// All records as they came, if they are to be digested.
    pub received: Option<AsReceived>,
}

/// Whether more is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    More,
    /// Only an SOA has come, with a newer serial, in answer to IXFR: the whole answer of a primary
    /// without differences, or the first of many small messages. Wait a little.
    Perhaps,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Start,
    /// Of an answer to IXFR the first SOA has been read, and nothing else.
    SoaOnly,
    Whole,
    /// In the removed records of a sequence, in its added ones.
    Removed,
    Added,
    UpToDate,
    End,
}

/// Reads the answer to one AXFR or IXFR question.
#[derive(Debug)]
pub struct Reader {
    query: Query,
    options: ReadOptions,
    /// Serial that an IXFR starts from.
    have: Option<Serial>,
    at: At,
    first: (u32, Vec<u8>),
    /// Serial that the sequence under way leads to.
    now_at: Serial,
    tally: Tally,
    batches: Vec<RecordBatch>,
    delta: Delta,
    /// Of a whole zone, if its digest is asked for.
    received: Option<AsReceived>,
    owner: NameBuf,
    key: Vec<u8>,
    case: Option<Vec<u8>>,
    /// The owner was given to the newest batch.
    told: bool,
    rdata: Vec<u8>,
}

impl Reader {
    /// Of the answer to an AXFR question.
    pub fn axfr(query: Query, options: ReadOptions) -> Reader {
        Reader::new(query, options, None)
    }

    /// Of the answer to an IXFR question that stated the serial `have`.
    pub fn ixfr(query: Query, have: Serial, options: ReadOptions) -> Reader {
        Reader::new(query, options, Some(have))
    }

    fn new(query: Query, options: ReadOptions, have: Option<Serial>) -> Reader {
        Reader {
            query,
            options,
            have,
            at: At::Start,
            first: (0, Vec::new()),
            now_at: have.unwrap_or(Serial(0)),
            tally: Tally::default(),
            batches: Vec::new(),
            delta: Delta::default(),
            received: (options.zonemd != ZonemdCheck::Off).then(AsReceived::default),
            owner: NameBuf::new(),
            key: Vec::new(),
            case: None,
            told: false,
            rdata: Vec::new(),
        }
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// The transfer is worthless; the connection is to be closed.
    pub fn message(&mut self, msg: &[u8], now: Timestamp) -> Result<Step, XfrError> {
        if self.done() {
            return Err(XfrError::AfterEnd);
        }
        self.tally.octets += msg.len() as u64;
        self.tally.messages += 1;
        let limit = self.options.max_size;
        if limit > 0 && self.tally.octets > limit {
            return Err(XfrError::TooLarge { limit });
        }
        let message = Message::parse(msg).map_err(|e| self.malformed(e))?;
        check_header(&message.header, self.query.id)?;
        let verified = match &mut self.query.tsig {
            Some(tsig) => tsig.verify(msg, now).map(|_| ()),
            None => Ok(()),
        };
        refused(&message, &verified)?;
        verified?;
        if message.header.has(flag::TC) {
            return Err(XfrError::Truncated);
        }
        self.question(&message)?;
        self.records(&message)?;
        self.step()
    }

    /// What was received.
    ///
    /// # Errors
    /// The transfer is not at its end: the connection ended, or the time was over.
    pub fn finish(mut self) -> Result<Received, XfrError> {
        let serial = self.first_serial();
        match self.at {
            At::UpToDate => Ok(Received::UpToDate(serial)),
            At::SoaOnly if self.is_signed_to_the_end() => Ok(Received::NoDifferences(serial)),
            At::End if self.delta.is_empty() => Ok(Received::Full(Full {
                serial,
                batches: self.batches,
                tally: self.tally,
                received: self.received,
            })),
            At::End => {
                self.delta.close(serial, self.tally);
                Ok(Received::Delta(self.delta))
            }
            _ => Err(XfrError::Cut {
                records: self.tally.records,
            }),
        }
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn done(&self) -> bool {
        matches!(self.at, At::End | At::UpToDate)
    }

    fn step(&self) -> Result<Step, XfrError> {
        if self.done() {
            return match self.is_signed_to_the_end() {
                true => Ok(Step::Done),
                false => Err(XfrError::UnsignedEnd),
            };
        }
        Ok(match self.at {
            At::SoaOnly => Step::Perhaps,
            _ => Step::More,
        })
    }

    fn is_signed_to_the_end(&self) -> bool {
        self.query.tsig.as_ref().is_none_or(|t| t.is_complete())
    }

    fn malformed(&self, source: cascade_wire::WireError) -> XfrError {
        XfrError::Malformed {
            records: self.tally.records,
            source,
        }
    }

    fn first_serial(&self) -> Serial {
        SoaFields::parse(&self.first.1).map_or(Serial(0), |s| s.serial)
    }

    /// RFC 5936 §2.2.1: the first message repeats the question, later ones may.
    fn question(&self, message: &Message<'_>) -> Result<(), XfrError> {
        if message.header.counts[0] == 0 {
            return match self.tally.messages {
                1 => Err(XfrError::NoQuestion),
                _ => Ok(()),
            };
        }
        let question = message.question().map_err(|e| self.malformed(e))?;
        match is_question(question.as_ref(), &self.query) {
            true => Ok(()),
            false => Err(XfrError::WrongQuestion),
        }
    }

    fn records(&mut self, message: &Message<'_>) -> Result<(), XfrError> {
        let counts = message.header.counts;
        if counts[1] == 0 {
            return Err(XfrError::Empty);
        }
        if counts[2] > 0 {
            return Err(XfrError::Section);
        }
        // A name after a pointer of an earlier message would be another name.
        self.told = false;
        let single = counts[1] == 1;
        let mut end = None;
        for record in message.records() {
            let record = record.map_err(|e| self.malformed(e))?;
            end = Some(record.end);
            if record.section == 1 {
                self.record(&record, single)?;
            }
        }
        match end {
            Some(end) if end < message.msg.len() => {
                Err(self.malformed(cascade_wire::WireError::Trailing))
            }
            _ => Ok(()),
        }
    }

    fn record(&mut self, record: &RecordView<'_>, single: bool) -> Result<(), XfrError> {
        if self.done() {
            return Err(XfrError::AfterEnd);
        }
        self.take(record)?;
        let rtype = record.rtype;
        let soa = rtype == Rtype::SOA && self.key.is_empty();
        match self.at {
            At::Start if !soa => Err(XfrError::FirstNotSoa),
            At::Start => self.first_record(record.ttl, single),
            At::SoaOnly => self.second_record(record, soa),
            At::Whole if soa => self.closing(record.ttl),
            At::Whole => self.whole(record),
            At::Removed | At::Added if soa => self.sequence(record.ttl),
            At::Removed | At::Added => self.change(record),
            At::UpToDate | At::End => Err(XfrError::AfterEnd),
        }
    }

    /// Decodes owner and RDATA of the record, and refuses what no zone can hold.
    fn take(&mut self, record: &RecordView<'_>) -> Result<(), XfrError> {
        let mut owner = NameBuf::new();
        record
            .read_owner(&mut owner)
            .map_err(|e| self.malformed(e))?;
        let name = |o: &NameBuf| o.to_name();
        let rtype = record.rtype;
        if self.tally.records == 0 || owner.as_wire() != self.owner.as_wire() {
            self.key.clear();
            if !key::push_key(&self.query.apex, owner.as_wire(), &mut self.key) {
                return Err(XfrError::OutOfZone {
                    owner: name(&owner),
                    rtype,
                });
            }
            self.case = key::case_of(&self.query.apex, owner.as_wire());
            self.owner = owner;
            self.told = false;
        }
        if record.class != CLASS_IN {
            return Err(XfrError::Class {
                owner: name(&owner),
                rtype,
                class: record.class,
            });
        }
        self.rdata.clear();
        record
            .push_rdata(&mut self.rdata)
            .map_err(|e| XfrError::Malformed {
                records: self.tally.records,
                source: e,
            })?;
        check_wire(rtype, &self.rdata).map_err(|problem| XfrError::Rdata {
            owner: name(&owner),
            rtype,
            problem,
        })?;
        let octets = owner.as_wire().len() + 10 + self.rdata.len();
        if octets > MAX_RR {
            return Err(XfrError::RecordTooLarge {
                owner: name(&owner),
                rtype,
                octets,
            });
        }
        self.tally.records += 1;
        let limit = self.options.max_records;
        // The closing SOA is one more than the zone has.
        if limit > 0 && self.tally.records > limit.saturating_add(1) {
            return Err(XfrError::TooManyRecords { limit });
        }
        Ok(())
    }

    fn first_record(&mut self, ttl: u32, single: bool) -> Result<(), XfrError> {
        self.first = (ttl, self.rdata.clone());
        let serial = self.first_serial();
        let Some(have) = self.have else {
            self.at = At::Whole;
            self.keep(Rtype::SOA, ttl);
            return self.push(Rtype::SOA, ttl);
        };
        self.at = match serial.newer_than(have) {
            false if single => At::UpToDate,
            _ => At::SoaOnly,
        };
        Ok(())
    }

    /// RFC 1995 §4: a second SOA with our serial begins differences, all else a whole zone.
    fn second_record(&mut self, record: &RecordView<'_>, soa: bool) -> Result<(), XfrError> {
        let serial = SoaFields::parse(&self.rdata).map(|s| s.serial);
        if soa && serial == self.have && serial != Some(self.first_serial()) {
            return self.begin_sequence(record.ttl);
        }
        // Whole: the first SOA is content too, and was kept back until this was known.
        let second = std::mem::replace(&mut self.rdata, self.first.1.clone());
        let (key, case) = (std::mem::take(&mut self.key), self.case.take());
        self.keep(Rtype::SOA, self.first.0);
        self.push(Rtype::SOA, self.first.0)?;
        (self.rdata, self.key, self.case) = (second, key, case);
        self.told = false;
        self.at = At::Whole;
        match soa {
            true => self.closing(record.ttl),
            false => self.whole(record),
        }
    }

    fn is_first_soa(&self, ttl: u32) -> bool {
        ttl == self.first.0 && canon::cmp_rdata(Rtype::SOA, &self.rdata, &self.first.1).is_eq()
    }

    /// An SOA in a whole zone is its end, and must be the one it began with.
    fn closing(&mut self, ttl: u32) -> Result<(), XfrError> {
        if !self.is_first_soa(ttl) {
            return Err(self.other_soa());
        }
        self.end();
        Ok(())
    }

    fn end(&mut self) {
        self.at = At::End;
        self.tally.records -= 1;
    }

    fn other_soa(&self) -> XfrError {
        XfrError::OtherSoa {
            first: self.first_serial(),
            other: SoaFields::parse(&self.rdata).map_or(Serial(0), |s| s.serial),
        }
    }

    fn begin_sequence(&mut self, ttl: u32) -> Result<(), XfrError> {
        let serial = SoaFields::parse(&self.rdata).map_or(Serial(0), |s| s.serial);
        if serial != self.now_at {
            return Err(XfrError::SequenceStart {
                expected: self.now_at,
                got: serial,
            });
        }
        self.at = At::Removed;
        self.delta.sequences += 1;
        self.push_change(Rtype::SOA, ttl);
        Ok(())
    }

    /// An SOA among differences: the middle of a sequence, the next sequence, or the end.
    fn sequence(&mut self, ttl: u32) -> Result<(), XfrError> {
        let serial = SoaFields::parse(&self.rdata).map_or(Serial(0), |s| s.serial);
        let last = self.first_serial();
        if self.at == At::Removed {
            if !serial.newer_than(self.now_at) {
                return Err(XfrError::SequenceBack {
                    from: self.now_at,
                    to: serial,
                });
            }
            // What leads beyond the serial that was announced leads nowhere.
            if serial != last && !last.newer_than(serial) {
                return Err(self.other_soa());
            }
            if serial == last && !self.is_first_soa(ttl) {
                return Err(self.other_soa());
            }
            self.now_at = serial;
            self.at = At::Added;
            self.push_change(Rtype::SOA, ttl);
            return Ok(());
        }
        if self.now_at != last {
            return self.begin_sequence(ttl);
        }
        match self.is_first_soa(ttl) {
            true => {
                self.end();
                Ok(())
            }
            false => Err(self.other_soa()),
        }
    }

    /// RFC 2181 §8: a TTL with the top bit is zero.
    fn ttl(&mut self, ttl: u32) -> u32 {
        if ttl > i32::MAX as u32 {
            self.tally.ttl_range += 1;
            return 0;
        }
        match self.options.max_ttl {
            Some(max) if ttl > max => {
                self.tally.ttl_lowered += 1;
                max
            }
            _ => ttl,
        }
    }

    fn is_stripped(&mut self, rtype: Rtype) -> bool {
        let drop = self.options.strip
            && (rtype.is_denial_or_signature() || (self.key.is_empty() && rtype.is_signer_apex()));
        if drop {
            *self.tally.stripped.entry(rtype.0).or_default() += 1;
        }
        drop
    }

    /// For the digest: the record as it came.
    fn keep(&mut self, rtype: Rtype, ttl: u32) {
        if let Some(received) = &mut self.received {
            received.owner(&self.key, None);
            received.push(rtype, ttl, &self.rdata);
        }
    }

    fn whole(&mut self, record: &RecordView<'_>) -> Result<(), XfrError> {
        self.keep(record.rtype, record.ttl);
        if self.is_stripped(record.rtype) {
            return Ok(());
        }
        self.push(record.rtype, record.ttl)
    }

    fn push(&mut self, rtype: Rtype, ttl: u32) -> Result<(), XfrError> {
        let ttl = self.ttl(ttl);
        if self.batches.last().is_none_or(|b| b.octets() >= BATCH) {
            self.batches.push(RecordBatch::new());
            self.told = false;
        }
        let Some(batch) = self.batches.last_mut() else {
            return Ok(());
        };
        if !self.told {
            batch.owner(&self.key, self.case.as_deref());
            self.told = true;
        }
        let loc = u32::try_from(self.tally.records).unwrap_or(u32::MAX);
        // A batch holds 4 GiB and is closed at 16 MiB, and a record has at most 64 KiB.
        batch
            .push(rtype, ttl, &self.rdata, loc)
            .map_err(|_| XfrError::TooLarge {
                limit: u64::from(u32::MAX),
            })
    }

    fn change(&mut self, record: &RecordView<'_>) -> Result<(), XfrError> {
        if !self.is_stripped(record.rtype) {
            self.push_change(record.rtype, record.ttl);
        }
        Ok(())
    }

    fn push_change(&mut self, rtype: Rtype, ttl: u32) {
        let ttl = self.ttl(ttl);
        let added = self.at == At::Added;
        self.delta.push(
            added,
            &self.key,
            self.case.as_deref(),
            rtype,
            ttl,
            &self.rdata,
        );
    }
}

/// The apex name of a reader, for messages.
impl Reader {
    pub fn apex(&self) -> &Name {
        &self.query.apex
    }
}
