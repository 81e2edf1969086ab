//! The answer algorithm (RFC 1034 §4.3.2 with RFC 2181, 2308, 4035 §3.1, 4592, 5155 §7.2, 6672)
//! over one version.

use cascade_wire::reader::CLASS_IN;
use cascade_wire::{Composer, Full, NameBuf, Section, flag, rcode};
use cascade_zone::Rtype;
use cascade_zone::key;
use cascade_zone::name::wire_len;
use cascade_zone::version::{Owner, RRset, Sig, ZoneVersion};

use crate::answer::{Scratch, soa_tail};
use crate::proof::Proofs;

/// CNAME and DNAME steps of one answer.
const MAX_STEPS: usize = 16;
/// RDATA of an answered set whose addresses are looked for.
const MAX_TARGETS: usize = 32;

/// How an answer came out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub rcode: u16,
    pub truncated: bool,
    /// The version's data contradict themselves: SERVFAIL.
    pub broken: Option<&'static str>,
}

/// Why composing stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Full,
    Broken(&'static str),
}

impl From<Full> for Stop {
    fn from(_: Full) -> Self {
        Stop::Full
    }
}

/// What the authority section begins with.
#[allow(clippy::large_enum_variant)] // one a time, on the stack; a box would be an allocation
enum Authority<'v> {
    Nothing,
    Soa,
    Referral(Owner<'v>),
}

/// What a name has for a question.
enum AtOwner {
    Found,
    NoData,
    Alias,
}

pub(crate) struct Lookup<'v, 'o> {
    version: &'v ZoneVersion,
    msg: Composer<'o>,
    dnssec: bool,
    udp: bool,
    proofs: Proofs<'v>,
    authority: Authority<'v>,
    /// The answered set whose targets' addresses are welcome, and its owner in the answer.
    targets: Option<(RRset<'v>, NameBuf)>,
}

impl<'v, 'o> Lookup<'v, 'o> {
    pub fn new(version: &'v ZoneVersion, msg: Composer<'o>, dnssec: bool, udp: bool) -> Self {
        let proofs = Proofs::new(version, dnssec);
        Lookup {
            version,
            msg,
            dnssec,
            udp,
            proofs,
            authority: Authority::Nothing,
            targets: None,
        }
    }

    /// Writes all sections; on trouble nothing but the question is left.
    pub fn run(
        mut self,
        qname: &[u8],
        qtype: Rtype,
        scratch: &mut Scratch,
    ) -> (Composer<'o>, Found) {
        let bare = self.msg.mark();
        let mut code = rcode::NOERROR;
        let done = self
            .answer(qname, qtype, &mut code, scratch)
            .and_then(|()| {
                self.authority(scratch)?;
                self.additional(scratch)
            });
        let found = match done {
            Ok(()) => Found {
                rcode: code,
                truncated: false,
                broken: None,
            },
            Err(Stop::Full) => {
                self.msg.rollback(bare);
                self.msg.flags(0, flag::TC);
                Found {
                    rcode: code,
                    truncated: true,
                    broken: None,
                }
            }
            Err(Stop::Broken(why)) => {
                self.msg.rollback(bare);
                self.msg.flags(flag::AA, 0);
                Found {
                    rcode: rcode::SERVFAIL,
                    truncated: false,
                    broken: Some(why),
                }
            }
        };
        (self.msg, found)
    }

    // ---- answer section

    fn answer(
        &mut self,
        qname: &[u8],
        qtype: Rtype,
        code: &mut u16,
        s: &mut Scratch,
    ) -> Result<(), Stop> {
        let mut current = NameBuf::new();
        current.set(qname);
        let mut passed: Vec<NameBuf> = Vec::new();
        loop {
            s.key.clear();
            if !key::push_key(self.version.apex(), current.as_wire(), &mut s.key) {
                // An alias left the zone; the resolver goes on from there.
                return Ok(());
            }
            let before = current;
            if !self.step(&mut current, qtype, code, s)? {
                return Ok(());
            }
            passed.push(before);
            let met = passed
                .iter()
                .any(|n| n.as_wire().eq_ignore_ascii_case(current.as_wire()));
            if met || passed.len() > MAX_STEPS {
                return Ok(());
            }
        }
    }

    /// Answers for one name, whose key is in the scratch; `true`: go on at the new `current`.
    fn step(
        &mut self,
        current: &mut NameBuf,
        qtype: Rtype,
        code: &mut u16,
        s: &mut Scratch,
    ) -> Result<bool, Stop> {
        let version = self.version;
        let closest = version.closest(&s.key);
        if let Some(stop) = closest.stop {
            if stop.flags().is_cut() {
                return self.at_cut(stop, current, qtype, s).map(|()| false);
            }
            let wanted = self.dname(&stop, current, s)?;
            if !wanted {
                *code = rcode::YXDOMAIN;
            }
            return Ok(wanted);
        }
        if let Some(owner) = closest.owner {
            return match self.at_owner(&owner, current, qtype)? {
                AtOwner::Alias => Ok(true),
                AtOwner::Found => Ok(false),
                AtOwner::NoData => {
                    self.authority = Authority::Soa;
                    self.proofs.no_data(&owner, s)?;
                    Ok(false)
                }
            };
        }
        let encloser = closest.encloser_len;
        if closest.exact {
            self.authority = Authority::Soa;
            self.proofs.empty_non_terminal(s)?;
            return Ok(false);
        }
        s.other_key.clear();
        s.other_key.extend_from_slice(&s.key[..encloser]);
        s.other_key.extend_from_slice(b"*\0");
        let Some(wild) = version.owner(&s.other_key) else {
            *code = rcode::NXDOMAIN;
            self.authority = Authority::Soa;
            self.proofs.name_error(encloser, s)?;
            return Ok(false);
        };
        if wild.flags().is_cut() {
            // RFC 4592 §4.2 leaves delegations at wildcards undefined; nothing of it is signed.
            return Err(Stop::Broken("NS at a wildcard below the apex"));
        }
        match self.at_owner(&wild, current, qtype)? {
            AtOwner::NoData => {
                self.authority = Authority::Soa;
                self.proofs.wildcard_no_data(&wild, encloser, s)?;
                Ok(false)
            }
            found => {
                self.proofs.wildcard_answer(encloser, s)?;
                Ok(matches!(found, AtOwner::Alias))
            }
        }
    }

    /// At or below a zone cut: DS at the cut itself is ours, all else is referred.
    fn at_cut(
        &mut self,
        cut: Owner<'v>,
        current: &NameBuf,
        qtype: Rtype,
        s: &mut Scratch,
    ) -> Result<(), Stop> {
        if qtype == Rtype::DS && cut.key() == s.key {
            match cut.set(Rtype::DS) {
                Some(set) => self.put(Section::Answer, current.as_wire(), &cut, &set, set.ttl)?,
                None => {
                    self.authority = Authority::Soa;
                    self.proofs.no_data(&cut, s)?;
                }
            }
            return Ok(());
        }
        if self.msg.count(Section::Answer) == 0 {
            self.msg.flags(flag::AA, 0);
        }
        if cut.set(Rtype::DS).is_none() {
            // The proof is about the cut, not about the name below it.
            s.key.clear();
            s.key.extend_from_slice(cut.key());
            self.proofs.no_data(&cut, s)?;
        }
        self.authority = Authority::Referral(cut);
        Ok(())
    }

    /// RFC 6672 §3.2: the DNAME and a CNAME made from it. `false`: the new name is too long.
    fn dname(
        &mut self,
        owner: &Owner<'v>,
        current: &mut NameBuf,
        s: &mut Scratch,
    ) -> Result<bool, Stop> {
        let set = owner
            .set(Rtype::DNAME)
            .ok_or(Stop::Broken("DNAME owner without DNAME"))?;
        let target = set
            .rdatas()
            .next()
            .ok_or(Stop::Broken("DNAME without RDATA"))?;
        s.wire.clear();
        owner.push_wire(&mut s.wire);
        let owner_len = s.wire.len();
        let wire = std::mem::take(&mut s.wire);
        let put = self.put(Section::Answer, &wire, owner, &set, set.ttl);
        s.wire = wire;
        put?;
        let name = current.as_wire();
        let prefix = &name[..name.len().saturating_sub(owner_len)];
        s.wire.clear();
        s.wire.extend_from_slice(prefix);
        s.wire.extend_from_slice(target);
        let mut next = NameBuf::new();
        if !next.set(&s.wire) {
            return Ok(false);
        }
        self.msg
            .record(Section::Answer, name, Rtype::CNAME, set.ttl, next.as_wire())?;
        *current = next;
        Ok(true)
    }

    /// `owner`: an existing name or the wildcard that stands in for `current`.
    fn at_owner(
        &mut self,
        owner: &Owner<'v>,
        current: &mut NameBuf,
        qtype: Rtype,
    ) -> Result<AtOwner, Stop> {
        // RFC 2181 §10.1 and RFC 4034 let these stand beside a CNAME. Where they do not, the CNAME
        // is the answer: a denial would show its bit and be taken for bogus (RFC 5155 §8.5).
        let keeps = match qtype {
            Rtype::CNAME | Rtype::ANY => true,
            Rtype::NSEC => owner.nsec().is_some(),
            Rtype::RRSIG => self.version.is_signed(),
            Rtype::KEY | Rtype::NXT => owner.set(qtype).is_some(),
            _ => false,
        };
        if !keeps && let Some(set) = owner.set(Rtype::CNAME) {
            self.put(Section::Answer, current.as_wire(), owner, &set, set.ttl)?;
            let target = set
                .rdatas()
                .next()
                .ok_or(Stop::Broken("CNAME without RDATA"))?;
            let mut next = NameBuf::new();
            if !next.set(target) {
                return Err(Stop::Broken("CNAME with a malformed target"));
            }
            *current = next;
            return Ok(AtOwner::Alias);
        }
        let name = *current;
        let name = name.as_wire();
        let before = self.msg.count(Section::Answer);
        match qtype {
            Rtype::ANY => self.any(owner, name)?,
            Rtype::RRSIG => {
                for set in owner.sets() {
                    self.put_sigs(Section::Answer, name, owner, &set, set.ttl)?;
                }
                self.put_nsec_sigs(Section::Answer, name, owner)?;
            }
            Rtype::NSEC => {
                if owner.nsec().is_some() {
                    self.put_nsec(Section::Answer, name, owner)?;
                }
            }
            _ => {
                let Some(set) = owner.set(qtype) else {
                    return Ok(AtOwner::NoData);
                };
                self.put(Section::Answer, name, owner, &set, set.ttl)?;
                if has_targets(qtype) {
                    self.targets = Some((set, *current));
                }
                return Ok(AtOwner::Found);
            }
        }
        let none = self.msg.count(Section::Answer) == before;
        Ok(if none {
            AtOwner::NoData
        } else {
            AtOwner::Found
        })
    }

    /// RFC 8482 §4.1 over UDP: one RRset.
    fn any(&mut self, owner: &Owner<'v>, name: &[u8]) -> Result<(), Stop> {
        for set in owner.sets() {
            self.put(Section::Answer, name, owner, &set, set.ttl)?;
            if self.udp {
                return Ok(());
            }
        }
        if self.dnssec && owner.nsec().is_some() {
            self.put_nsec(Section::Answer, name, owner)?;
        }
        Ok(())
    }

    // ---- authority section

    fn authority(&mut self, s: &mut Scratch) -> Result<(), Stop> {
        match std::mem::replace(&mut self.authority, Authority::Nothing) {
            Authority::Nothing => {}
            Authority::Soa => self.put_soa()?,
            Authority::Referral(cut) => {
                s.wire.clear();
                cut.push_wire(&mut s.wire);
                let ns = cut
                    .set(Rtype::NS)
                    .ok_or(Stop::Broken("zone cut without NS"))?;
                for rdata in ns.rdatas() {
                    self.msg
                        .record(Section::Authority, &s.wire, Rtype::NS, ns.ttl, rdata)?;
                }
                if self.dnssec
                    && let Some(ds) = cut.set(Rtype::DS)
                {
                    self.put(Section::Authority, &s.wire, &cut, &ds, ds.ttl)?;
                }
                self.authority = Authority::Referral(cut);
            }
        }
        let proofs = std::mem::take(&mut self.proofs.nsec);
        for owner in &proofs {
            s.wire.clear();
            owner.push_wire(&mut s.wire);
            self.put_nsec(Section::Authority, &s.wire, owner)?;
        }
        self.put_nsec3(s)
    }

    /// RFC 2308 §3: TTL is the smaller of the SOA's own and its MINIMUM.
    fn put_soa(&mut self) -> Result<(), Stop> {
        let apex = self.version.apex_owner();
        let soa = apex
            .set(Rtype::SOA)
            .ok_or(Stop::Broken("zone without SOA"))?;
        let ttl = soa.ttl.min(soa_tail(self.version.soa(), 16));
        let name = self.version.apex().clone();
        self.put(Section::Authority, name.as_wire(), &apex, &soa, ttl)
    }

    fn put_nsec3(&mut self, s: &mut Scratch) -> Result<(), Stop> {
        for row in std::mem::take(&mut self.proofs.nsec3) {
            s.wire.clear();
            row.push_owner(&mut s.wire);
            let ttl = row.ttl();
            self.msg.record_with(
                Section::Authority,
                &s.wire,
                Rtype::NSEC3,
                CLASS_IN,
                ttl,
                |o| row.push_rdata(o),
            )?;
            for sig in row.sigs() {
                let mut known = true;
                self.msg.record_with(
                    Section::Authority,
                    &s.wire,
                    Rtype::RRSIG,
                    CLASS_IN,
                    ttl,
                    |o| {
                        known = row.push_rrsig(&sig, o);
                    },
                )?;
                known_key(known)?;
            }
        }
        Ok(())
    }

    // ---- additional section

    fn additional(&mut self, s: &mut Scratch) -> Result<(), Stop> {
        match std::mem::replace(&mut self.authority, Authority::Nothing) {
            Authority::Referral(cut) => self.glue(&cut, s),
            _ => self.target_addresses(s),
        }
    }

    /// RFC 9471: addresses of name servers at or below the cut must fit; those of siblings are
    /// added while there is room.
    fn glue(&mut self, cut: &Owner<'v>, s: &mut Scratch) -> Result<(), Stop> {
        let Some(ns) = cut.set(Rtype::NS) else {
            return Ok(());
        };
        for in_domain in [true, false] {
            for target in ns.rdatas() {
                s.key.clear();
                if !key::push_key(self.version.apex(), target, &mut s.key)
                    || s.key.starts_with(cut.key()) != in_domain
                {
                    continue;
                }
                let Some(owner) = self.version.owner(&s.key) else {
                    continue;
                };
                if !in_domain && self.is_renamed(&owner) {
                    continue;
                }
                match self.put_addresses(target, &owner) {
                    Err(Stop::Full) if !in_domain => return Ok(()),
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// Addresses of what NS, MX, SRV, SVCB and HTTPS point to inside the zone, while there is room.
    fn target_addresses(&mut self, s: &mut Scratch) -> Result<(), Stop> {
        let Some((set, owner_name)) = self.targets.take() else {
            return Ok(());
        };
        for (i, rdata) in set.rdatas().take(MAX_TARGETS).enumerate() {
            let Some(target) = target_of(set.rtype, rdata, owner_name.as_wire()) else {
                continue;
            };
            let seen = set
                .rdatas()
                .take(i)
                .filter_map(|r| target_of(set.rtype, r, owner_name.as_wire()))
                .any(|t| t.eq_ignore_ascii_case(target));
            s.key.clear();
            if seen || !key::push_key(self.version.apex(), target, &mut s.key) {
                continue;
            }
            let Some(owner) = self.version.owner(&s.key) else {
                continue;
            };
            if self.is_renamed(&owner) {
                continue;
            }
            match self.put_addresses(target, &owner) {
                Err(Stop::Full) => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Occluded by a DNAME, so not to be found by asking.
    fn is_renamed(&self, owner: &Owner<'v>) -> bool {
        owner.flags().is_occluded()
            && self
                .version
                .closest(owner.key())
                .stop
                .is_some_and(|s| !s.flags().is_cut())
    }

    fn put_addresses(&mut self, name: &[u8], owner: &Owner<'v>) -> Result<(), Stop> {
        for rtype in [Rtype::A, Rtype::AAAA] {
            let Some(set) = owner.set(rtype) else {
                continue;
            };
            let mark = self.msg.mark();
            let put = self.put(Section::Additional, name, owner, &set, set.ttl);
            if put.is_err() {
                self.msg.rollback(mark);
                return put;
            }
        }
        Ok(())
    }

    // ---- records

    /// An RRset, under DO with its signatures.
    fn put(
        &mut self,
        section: Section,
        name: &[u8],
        owner: &Owner<'v>,
        set: &RRset<'v>,
        ttl: u32,
    ) -> Result<(), Stop> {
        for rdata in set.rdatas() {
            self.msg.record(section, name, set.rtype, ttl, rdata)?;
        }
        if self.dnssec {
            self.put_sigs(section, name, owner, set, ttl)?;
        }
        Ok(())
    }

    fn put_sigs(
        &mut self,
        section: Section,
        name: &[u8],
        owner: &Owner<'v>,
        set: &RRset<'v>,
        ttl: u32,
    ) -> Result<(), Stop> {
        let labels = self.labels(owner);
        for sig in owner.sigs(set.index) {
            self.put_sig(section, name, &sig, labels, set.ttl, ttl)?;
        }
        Ok(())
    }

    fn put_nsec(&mut self, section: Section, name: &[u8], owner: &Owner<'v>) -> Result<(), Stop> {
        let nsec = owner
            .nsec()
            .ok_or(Stop::Broken("denial record is missing"))?;
        self.msg
            .record_with(section, name, Rtype::NSEC, CLASS_IN, nsec.ttl, |o| {
                nsec.push_rdata(o)
            })?;
        if self.dnssec {
            self.put_nsec_sigs(section, name, owner)?;
        }
        Ok(())
    }

    fn put_nsec_sigs(
        &mut self,
        section: Section,
        name: &[u8],
        owner: &Owner<'v>,
    ) -> Result<(), Stop> {
        let Some(nsec) = owner.nsec() else {
            return Ok(());
        };
        let labels = self.labels(owner);
        for sig in nsec.sigs() {
            self.put_sig(section, name, &sig, labels, nsec.ttl, nsec.ttl)?;
        }
        Ok(())
    }

    fn put_sig(
        &mut self,
        section: Section,
        name: &[u8],
        sig: &Sig<'_>,
        labels: u8,
        original: u32,
        ttl: u32,
    ) -> Result<(), Stop> {
        let version = self.version;
        let mut known = true;
        self.msg
            .record_with(section, name, Rtype::RRSIG, CLASS_IN, ttl, |o| {
                known = sig.push_rdata(version, labels, original, o);
            })?;
        known_key(known)
    }

    /// RFC 4034 §3.1.3: of the owner in the zone, also where a wildcard answers for another name.
    fn labels(&self, owner: &Owner<'v>) -> u8 {
        let key = owner.key();
        let all = self.version.apex().label_count() + key::depth(key);
        (all - key::is_wildcard(key) as usize) as u8
    }
}

fn known_key(known: bool) -> Result<(), Stop> {
    if known {
        Ok(())
    } else {
        Err(Stop::Broken(
            "signature of a key that the version does not know",
        ))
    }
}

fn has_targets(rtype: Rtype) -> bool {
    matches!(
        rtype,
        Rtype::NS | Rtype::MX | Rtype::SRV | Rtype::SVCB | Rtype::HTTPS
    )
}

/// The name that RDATA points to.
fn target_of<'a>(rtype: Rtype, rdata: &'a [u8], owner: &'a [u8]) -> Option<&'a [u8]> {
    let rest = match rtype {
        Rtype::NS => rdata,
        Rtype::MX | Rtype::SVCB | Rtype::HTTPS => rdata.get(2..)?,
        Rtype::SRV => rdata.get(6..)?,
        _ => return None,
    };
    let target = &rest[..wire_len(rest).ok()?];
    // RFC 9460 §2.5.2: in service mode the root stands for the owner itself.
    let itself =
        matches!(rtype, Rtype::SVCB | Rtype::HTTPS) && target == [0] && !rdata.starts_with(&[0, 0]);
    Some(if itself { owner } else { target })
}
