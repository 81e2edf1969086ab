//! The status report of a zone: from the daemon's document to the lines people read.

use std::time::Duration;

use cascade_api::status::*;
use cascade_api::zones::{Source, ZoneState};
use cascade_api::{Stage, word};
use cascade_time::{Timestamp, format_span};

use crate::output::{Paint, ago, clean, signed_span, span_secs};

const UNKNOWN_SERIAL: &str = "<serial number not yet known>";

/// The whole report. `now` is the time that "ago" counts to.
pub fn report(s: &ZoneStatus, detailed: bool, now: Timestamp, paint: Paint) -> String {
    let mut r = Report {
        s,
        now,
        paint,
        out: String::new(),
        older_shown: false,
    };
    r.line(format!(
        "Status report for zone '{}' using policy '{}'",
        clean(&s.zone),
        clean(&s.policy)
    ));
    r.primaries();
    r.steps();
    r.trouble();
    if detailed {
        crate::detail::detail(s, now, &mut r.out);
    }
    r.out
}

struct Report<'a> {
    s: &'a ZoneStatus,
    now: Timestamp,
    paint: Paint,
    out: String,
    /// What stays published is said once.
    older_shown: bool,
}

/// Whether the step is behind us.
enum Step {
    Done,
    Here,
}

impl Report<'_> {
    fn line(&mut self, text: impl AsRef<str>) {
        self.out.push_str(text.as_ref());
        self.out.push('\n');
    }

    fn done(&mut self, text: impl AsRef<str>) {
        let icon = self.paint.green("✔");
        self.line(format!("{icon} {}", text.as_ref()));
    }

    fn pending(&mut self, text: impl AsRef<str>) {
        let icon = self.paint.yellow("•");
        self.line(format!("{icon} {}", text.as_ref()));
    }

    fn failed(&mut self, text: impl AsRef<str>) {
        let icon = self.paint.red("x");
        self.line(format!("{icon} {}", text.as_ref()));
    }

    fn warning(&mut self, text: impl AsRef<str>) {
        let icon = self.paint.yellow("!");
        self.line(format!("{icon} {}", text.as_ref()));
    }

    /// From the first step to the one in progress.
    fn steps(&mut self) {
        if matches!(self.wait_and_load(), Step::Here) {
            return;
        }
        if matches!(self.unsigned_review(), Step::Here) {
            return;
        }
        if matches!(self.signing(), Step::Here) {
            return;
        }
        if matches!(self.approval_to_publish(), Step::Here) {
            return;
        }
        self.publication();
    }

    /// Where the content comes from, when that is a server: it is asked again by itself.
    fn primaries(&mut self) {
        let Some(p) = self.s.primaries.clone() else {
            return;
        };
        let mut text = format!("Source {}", crate::zone::source_text(&self.s.source));
        text += &match (p.confirmed_at, &p.kind) {
            (Some(at), Some(kind)) => {
                format!(" ({}), confirmed {}", clean(kind), ago(at, self.now))
            }
            (Some(at), None) => format!(", confirmed {}", ago(at, self.now)),
            (None, _) => ", no answer yet".to_string(),
        };
        if let Some(at) = p.next_refresh_at {
            text += &format!(", next refresh {}", at.to_human());
        }
        match (p.expires_at, p.expired) {
            (_, true) => text += ", EXPIRED",
            (Some(at), false) => text += &format!(", expires {}", at.to_human()),
            (None, false) => {}
        }
        self.line(text);
        if let Some(error) = p.error.as_ref().filter(|_| p.failures > 0) {
            let times = match p.failures {
                1 => "once".to_string(),
                n => format!("{n} times"),
            };
            self.line(format!("  Failed {times}: {}", clean(error)));
        }
    }

    fn wait_and_load(&mut self) -> Step {
        let zone = clean(&self.s.zone);
        if self.s.unsigned.is_none()
            && self.s.loading.is_none()
            && self.s.state != ZoneState::Loading
        {
            self.pending(format!("Waiting for a new version of the {zone} zone"));
            if let Some(before) = self.s.turn {
                self.line(match before {
                    0 => "  Its turn is next".to_string(),
                    1 => "  Waits for its turn: 1 zone comes first".to_string(),
                    n => format!("  Waits for its turn: {n} zones come first"),
                });
            }
            self.older_version();
            return Step::Here;
        }
        self.done(format!("Waited for a new version of the {zone} zone"));
        let servers = matches!(self.s.source, Source::Servers { .. });
        let (doing, did, place) = if servers {
            ("Fetching", "Fetched", "network")
        } else {
            ("Loading", "Loaded", "filesystem")
        };
        let running = self.s.loading.clone();
        if self.s.state == ZoneState::Loading || running.is_some() {
            self.pending(format!("{doing} .."));
            if let Some(l) = running {
                let secs = l.started_at.secs_until(self.now).max(0);
                self.line(format!(
                    "  {did} {} and {} records from the {place} in {secs} seconds so far",
                    size(l.size_bytes),
                    count(l.records)
                ));
            }
            self.older_version();
            return Step::Here;
        }
        let Some(u) = self.s.unsigned.clone() else {
            return Step::Here;
        };
        self.done(format!("Loaded version {}", u.serial));
        self.line(format!("  Loaded at {}", ago(u.loaded_at, self.now)));
        self.line(format!(
            "  {did} {} and {} records from the {place} in {} seconds",
            size(u.size_bytes),
            count(u.records),
            whole_secs(u.load_secs)
        ));
        Step::Done
    }

    fn unsigned_review(&mut self) -> Step {
        let review = &self.s.reviews.unsigned.clone();
        let serial = self.unsigned_serial();
        match (review.mode, review.status) {
            (ReviewMode::Off, ReviewStatus::Approved | ReviewStatus::None) => self.done(format!(
                "Auto approving signing of version {serial}, no checks enabled in policy."
            )),
            (_, ReviewStatus::Approved) => {
                self.done(format!("Waited for approval to sign version {serial}"));
            }
            (_, ReviewStatus::Rejected) => return Step::Here,
            _ => {
                self.pending(format!("Waiting for approval to sign version {serial}"));
                self.review_lines(review, Stage::Unsigned, &serial);
                for address in review.addresses.iter().take(1) {
                    self.line(format!("  Unsigned zone available on {}", clean(address)));
                }
                self.older_version();
                return Step::Here;
            }
        }
        self.done(format!(
            "Approval received to sign version {serial}, signing requested"
        ));
        Step::Done
    }

    /// Who decides, and how.
    fn review_lines(&mut self, review: &Review, stage: Stage, serial: &str) {
        if let Some(hook) = &review.hook {
            self.line(format!("  Configured to invoke {}", clean(hook)));
        }
        if let Some(detail) = &review.detail {
            self.line(format!("  {}", clean(detail)));
        }
        if review.mode == ReviewMode::Script && review.status != ReviewStatus::Held {
            return;
        }
        let (zone, stage) = (clean(&self.s.zone), stage.as_str());
        self.warning("Zone will be held until manually approved");
        self.line(format!(
            "  Approve with: cascade zone approve --{stage} {zone} {serial}"
        ));
        self.line(format!(
            "  Reject with: cascade zone reject --{stage} {zone} {serial}"
        ));
    }

    fn signing(&mut self) -> Step {
        let unsigned = self.unsigned_serial();
        let signed = self.signed_serial();
        let Some(g) = self.s.signing.clone() else {
            if self.s.halted.is_none() {
                self.pending(format!("Signing version {unsigned} as version {signed}"));
                self.older_version();
            }
            return Step::Here;
        };
        let finished = g.action == SigningAction::Finished;
        match g.action {
            SigningAction::Finished => {
                self.done(format!("Signed version {unsigned} as version {signed}"));
            }
            SigningAction::Failed => {
                self.failed(format!(
                    "Signing version {unsigned} as version {signed} failed"
                ));
            }
            _ => self.pending(format!("Signing version {unsigned} as version {signed}")),
        }
        self.signing_block(&g);
        if finished {
            return Step::Done;
        }
        self.older_version();
        Step::Here
    }

    fn signing_block(&mut self, g: &Signing) {
        if let Some(c) = &g.denial_change {
            self.line(format!(
                "  Building other NSEC(3) records beside those in service: {} of {} parts, since {}",
                count(c.parts_done),
                count(c.parts),
                ago(c.since, self.now)
            ));
        }
        self.line(format!(
            "  Signing requested at {}",
            ago(g.requested_at, self.now)
        ));
        if let Some(at) = g.started_at {
            self.line(format!("  Signing started at {}", ago(at, self.now)));
        }
        if g.action != SigningAction::Finished {
            if let Some(planned) = g.signatures_planned.filter(|p| *p > 0) {
                self.line(format!(
                    "  Generated {} of {planned} signatures",
                    g.signatures
                ));
            }
            self.line(format!("  Current action: {}", g.action.text()));
            return;
        }
        if let Some(at) = g.finished_at {
            self.line(format!("  Signing finished at {}", ago(at, self.now)));
        }
        self.line(format!(
            "  Collected {} records in {}, sorted in {}",
            count(g.records),
            span_secs(g.collect_secs),
            span_secs(g.sort_secs)
        ));
        self.line(format!(
            "  Generated {} NSEC(3) records in {}",
            count(g.denial_records),
            span_secs(g.denial_secs)
        ));
        self.line(format!(
            "  Generated {} signatures in {} ({} sig/s)",
            count(g.signatures),
            span_secs(g.sign_secs),
            rate(g.signatures, g.sign_secs)
        ));
        self.line(format!(
            "  Inserted signatures in {} ({} sig/s)",
            span_secs(g.insert_secs),
            rate(g.signatures, g.insert_secs)
        ));
        let kept = match g.signatures_kept {
            0 => String::new(),
            n => format!(", {} signatures kept", count(n)),
        };
        self.line(format!(
            "  Took {} in total, using {} threads{kept}",
            span_secs(g.total_secs),
            g.threads
        ));
        self.line(format!("  Current action: {}", g.action.text()));
    }

    fn approval_to_publish(&mut self) -> Step {
        let serial = self.signed_serial();
        let review = self.s.reviews.signed.clone();
        let verified = self.s.verification.as_ref().map(|v| v.status);
        let waits = match self.s.state {
            ZoneState::Verifying | ZoneState::SignedReview => true,
            ZoneState::Halted => {
                return match verified {
                    Some(VerificationStatus::Refused) | None => Step::Here,
                    _ if review.status == ReviewStatus::Rejected => Step::Here,
                    _ => Step::Done,
                };
            }
            _ => false,
        };
        if !waits {
            self.done(format!("Waited for approval to publish version {serial}"));
            return Step::Done;
        }
        self.pending(format!("Waiting for approval to publish version {serial}"));
        match &self.s.verification {
            Some(v) if self.s.state == ZoneState::Verifying => {
                let total = v
                    .signatures_total
                    .map_or("?".to_string(), |t| t.to_string());
                let checked = v.signatures_checked;
                self.line(format!("  Verified {checked} of {total} signatures"));
            }
            _ => self.review_lines(&review, Stage::Signed, &serial),
        }
        self.signed_available();
        self.older_version();
        Step::Here
    }

    fn publication(&mut self) {
        let serial = self.signed_serial();
        if self.s.state == ZoneState::Halted {
            return;
        }
        if !self.newest_is_published() {
            self.pending(format!("Publishing version {serial}"));
            self.signed_available();
            self.older_version();
            return;
        }
        self.done(format!("Published version {serial}"));
        if let Some(address) = self
            .s
            .published
            .as_ref()
            .and_then(|p| p.addresses.first().cloned())
        {
            self.line(format!("  Published zone available on {}", clean(&address)));
        }
    }

    fn signed_available(&mut self) {
        if let Some(address) = self.s.reviews.signed.addresses.first().cloned() {
            self.line(format!("  Signed zone available on {}", clean(&address)));
        }
    }

    /// What is in service while something newer is on its way.
    fn older_version(&mut self) {
        let Some(serial) = self.s.published.as_ref().map(|p| p.serial) else {
            return;
        };
        if std::mem::replace(&mut self.older_shown, true) {
            return;
        }
        let valid = match &self.s.signatures {
            Some(s) if s.runway_secs > 0 => format!(", valid for {}", signed_span(s.runway_secs)),
            Some(_) => ", and its signatures have expired".to_string(),
            None => String::new(),
        };
        self.warning(format!("Version {serial} stays published{valid}"));
    }

    /// Halt and warnings.
    fn trouble(&mut self) {
        let zone = clean(&self.s.zone);
        if let Some(h) = self.s.halted.clone() {
            self.failed(format!(
                "{}: {} must act",
                capital(&clean(&h.reason)),
                h.acts.who()
            ));
            if h.actions.is_empty() {
                self.line(format!("  Try: cascade zone reset {zone}"));
            }
            for action in &h.actions {
                self.line(format!("  Try: {}", clean(action)));
            }
            self.older_version();
        }
        let mut lines = Vec::new();
        if let Some(m) = &self.s.maintenance {
            let what = if m.resign {
                ""
            } else {
                ", signatures are not refreshed"
            };
            lines.push(format!(
                "Maintenance mode since {}{}{what}",
                ago(m.since, self.now),
                until(m.until)
            ));
        }
        if let Some(p) = &self.s.pin {
            lines.push(format!(
                "Pinned to {} since {}{}",
                clean(&p.version),
                ago(p.since, self.now),
                until(p.until)
            ));
        }
        for p in &self.s.pauses {
            lines.push(format!(
                "Paused {} since {}{}",
                word(&p.stage),
                ago(p.since, self.now),
                until(p.until)
            ));
        }
        for w in &self.s.warnings {
            lines.push(capital(&clean(&w.detail)));
        }
        for line in lines {
            self.warning(format!("{line} (see: cascade why {zone})"));
        }
    }

    fn unsigned_serial(&self) -> String {
        serial_text(self.s.unsigned.as_ref().map(|u| u.serial))
    }

    /// Of the version being made. Documents without that member mean the published one.
    fn signed_serial(&self) -> String {
        let own = self.s.signing.as_ref().and_then(|g| g.serial);
        let published = self.s.published.as_ref().map(|p| p.serial);
        serial_text(own.or(published.filter(|_| self.s.state == ZoneState::Published)))
    }

    fn newest_is_published(&self) -> bool {
        let own = self.s.signing.as_ref().and_then(|g| g.serial);
        match (&self.s.published, own) {
            (Some(p), Some(own)) => p.serial == own,
            (Some(_), None) => self.s.state == ZoneState::Published,
            (None, _) => false,
        }
    }
}

fn serial_text(serial: Option<u32>) -> String {
    serial.map_or_else(|| UNKNOWN_SERIAL.to_string(), |s| s.to_string())
}

fn until(at: Option<Timestamp>) -> String {
    at.map_or_else(String::new, |at| format!(" until {}", at.to_human()))
}

pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `N B`, above 1 000 `N KB`, above 1 000 000 `N MB`.
fn size(bytes: u64) -> String {
    match bytes {
        0..=1_000 => format!("{bytes} B"),
        1_001..=1_000_000 => format!("{} KB", bytes / 1_000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// `N`, `NK`, `NM` with the same bounds.
fn count(n: u64) -> String {
    match n {
        0..=1_000 => n.to_string(),
        1_001..=1_000_000 => format!("{}K", n / 1_000),
        _ => format!("{}M", n / 1_000_000),
    }
}

fn whole_secs(secs: f64) -> u64 {
    Duration::try_from_secs_f64(secs)
        .unwrap_or_default()
        .as_secs()
}

/// Per whole second; the count itself below one second.
fn rate(n: u64, secs: f64) -> String {
    count(n / whole_secs(secs).max(1))
}

/// For other modules: a span that is known to be positive.
pub fn span(secs: u64) -> String {
    format_span(Duration::from_secs(secs))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
