//! Plans that are refused, cancelling, and keys behind queues.
#![allow(clippy::unwrap_used)]

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use cascade_crypto::dnskey::Role;
use cascade_crypto::{
    Algorithm, Batch, Class, Completion, Dnskey, Input, Mode, QueuedSigner, SignFailure,
    Signatures, SigningKey, Ticket,
};
use cascade_signer::*;
use cascade_time::{SimClock, Timestamp};
use cascade_zone::{Edit, KeyId, Rtype, Serial, VersionId, ZoneVersion};
use kit::*;

fn small() -> ZoneVersion {
    zone(
        "example.",
        "@ SOA ns h 1 2 3 4 300\n@ NS ns\nns A 192.0.2.1\nb.a TXT \"x\"",
    )
}

fn refused(keys: &[ApexKey], denial: DenialPlan) -> SignError {
    let base = small();
    run_with(
        &base,
        &plan(&base, keys, denial),
        1,
        now(),
        &Progress::new(),
    )
    .unwrap_err()
}

#[test]
fn plans_that_would_be_bogus() {
    let all = |specs| keys(specs);
    use PlanError::*;
    let plan_error = |e| SignError::Plan(e);
    assert_eq!(
        refused(&all(&[("15", Role::Ksk)]), DenialPlan::Nsec),
        plan_error(ZoneAlgorithm(15))
    );
    assert_eq!(
        refused(&all(&[("15", Role::Zsk)]), DenialPlan::Nsec),
        plan_error(ApexAlgorithm(15))
    );
    let mixed = all(&[("15", Role::Csk), ("13", Role::Ksk)]);
    assert_eq!(
        refused(&mixed, DenialPlan::Nsec),
        plan_error(ZoneAlgorithm(13))
    );
    // A key that is only published, of an algorithm that nobody signs with.
    let mut foreign = all(&[("15", Role::Csk), ("13", Role::Csk)]);
    foreign[1].signer = None;
    assert_eq!(
        refused(&foreign, DenialPlan::Nsec),
        plan_error(ZoneAlgorithm(13))
    );
    foreign[1] = ApexKey {
        signer: None,
        ..all(&[("15", Role::Zsk)]).remove(0)
    };
    let base = small();
    assert!(
        run_with(
            &base,
            &plan(&base, &foreign, DenialPlan::Nsec),
            1,
            now(),
            &Progress::new()
        )
        .is_ok()
    );

    let csk = all(&[("15", Role::Csk)]);
    let salted = |iterations, n| DenialPlan::Nsec3 {
        iterations,
        salt: vec![0; n],
        opt_out: false,
    };
    assert_eq!(refused(&csk, salted(51, 0)), plan_error(Iterations(51)));
    assert_eq!(refused(&csk, salted(0, 256)), plan_error(Salt(256)));
    let twice = [csk[0].clone(), csk[0].clone()];
    let made = make_apex_set(base.apex(), &twice, &options(), now());
    assert_eq!(made.err(), Some(Twice(csk[0].dnskey.key_tag())));
    assert_eq!(
        make_apex_set(base.apex(), &[], &options(), now()).err(),
        Some(NoDnskey)
    );

    let with = |change: &dyn Fn(&mut ApexSet)| {
        let mut p = plan(&base, &csk, DenialPlan::Nsec);
        change(&mut p.apex);
        run_with(&base, &p, 1, now(), &Progress::new()).unwrap_err()
    };
    let at = now().to_wire();
    let short = ApexLifetime {
        left: 3599,
        ttl: 3600,
    };
    assert_eq!(with(&|s| s.expiration = at + 3599), plan_error(short));
    let endless = with(&|s| s.expiration = at + (1 << 30) + 1);
    assert!(matches!(endless, SignError::Plan(ApexLifetime { .. })));
    assert_eq!(with(&|s| s.inception = at + 1), plan_error(ApexInception));

    let long = zone(
        &format!("{0}.{0}.{0}.{1}.", "a".repeat(62), "b".repeat(40)),
        "@ SOA ns h 1 2 3 4 5",
    );
    let refused = run_with(
        &long,
        &plan(&long, &csk, nsec3(false)),
        1,
        now(),
        &Progress::new(),
    );
    assert_eq!(refused.unwrap_err(), plan_error(NameTooLong));
    let signed = run(&base, &plan(&base, &csk, DenialPlan::Nsec)).version;
    let refused = run_with(
        &signed,
        &plan(&signed, &csk, DenialPlan::Nsec),
        1,
        now(),
        &Progress::new(),
    );
    assert_eq!(refused.unwrap_err(), plan_error(NotUnsigned));
}

#[test]
fn sixteen_keys_and_no_more() {
    let base = small();
    let csk = keys(&[("15", Role::Csk)]);
    let fill = |n: u8| -> Vec<ApexKey> {
        (0..n)
            .map(|i| {
                let made = cascade_crypto::SoftwareKey::generate(
                    KeyId([100 + i; 16]),
                    257,
                    "15".parse().unwrap(),
                );
                apex_key(Arc::new(made.unwrap()), Role::Csk)
            })
            .chain(csk.iter().cloned())
            .collect()
    };
    let signed = run(&base, &plan(&base, &fill(15), nsec3(false)));
    // SOA, NS, NSEC3PARAM, ns A, b.a TXT and 4 NSEC3, by 16 keys.
    assert_eq!(signed.report.signatures, 9 * 16);
    assert_eq!(signed.report.keys.len(), 16);
    let refused = run_with(
        &base,
        &plan(&base, &fill(16), nsec3(false)),
        1,
        now(),
        &Progress::new(),
    );
    assert_eq!(
        refused.unwrap_err(),
        SignError::Plan(PlanError::TooManyKeys(17))
    );
}

#[test]
fn clock_and_times_are_checked_first() {
    let base = small();
    let mut p = plan(&base, &keys(&[("15", Role::Csk)]), DenialPlan::Nsec);
    p.clock.newest_inception = Some(now());
    let refused = run_with(&base, &p, 1, now(), &Progress::new()).unwrap_err();
    assert!(matches!(
        refused,
        SignError::Clock(ClockUnsafe::Behind { .. })
    ));
    p.clock.newest_inception = None;
    p.times.lifetime = 5;
    let refused = run_with(&base, &p, 1, now(), &Progress::new()).unwrap_err();
    assert!(matches!(
        refused,
        SignError::Times(TimesError::Lifetime { .. })
    ));
}

#[test]
fn cancelled_before_a_unit() {
    let base = small();
    let progress = Progress::new();
    progress.cancel();
    for key in [
        keys(&[("15", Role::Csk)]),
        vec![queued(Fault::None, false).1],
    ] {
        let p = plan(&base, &key, nsec3(false));
        assert_eq!(
            run_with(&base, &p, 1, now(), &progress).unwrap_err(),
            SignError::Cancelled
        );
    }
}

#[test]
fn progress_counts_units() {
    let base = small();
    let progress = Progress::new();
    let p = plan(&base, &keys(&[("15", Role::Csk)]), nsec3(false));
    let signed = run_with(&base, &p, 2, now(), &progress).unwrap();
    let units = (signed.version.unit_count() + signed.version.block_count()) as u64;
    assert_eq!(progress.units(), (units, units));
    assert_eq!(progress.stage(), Stage::Finished);
    assert_eq!(progress.signatures(), signed.report.signatures + 1);
    let json = serde_json::to_string(&signed.report).unwrap();
    assert_eq!(
        serde_json::from_str::<SignReport>(&json).unwrap(),
        signed.report
    );
}

// ---- a token

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    None,
    /// The first batch has one wrong signature.
    WrongOnce,
    AlwaysWrong,
    Fails,
    /// Completions are dropped.
    Gone,
    /// Never answers until cancelled.
    Silent,
}

struct Token {
    key: Arc<dyn SigningKey>,
    fault: Fault,
    /// Says that its signatures are verified before they get here.
    verified: bool,
    batches: AtomicU64,
    cancelled: AtomicU64,
    held: parking_lot::Mutex<Vec<Completion>>,
}

struct TokenKey(Arc<Token>);

impl SigningKey for TokenKey {
    fn id(&self) -> KeyId {
        KeyId([77; 16])
    }
    fn dnskey(&self) -> &Dnskey {
        self.0.key.dnskey()
    }
    fn algorithm(&self) -> Algorithm {
        self.0.key.algorithm()
    }
    fn sig_len(&self) -> usize {
        self.0.key.sig_len()
    }
    fn input(&self) -> Input {
        Input::Preimage
    }
    fn mode(&self) -> Mode<'_> {
        Mode::Queued(self)
    }
    fn is_verified(&self) -> bool {
        self.0.verified
    }
}

impl QueuedSigner for TokenKey {
    fn submit(&self, batch: Batch, class: Class, deadline: Timestamp, done: Completion) -> Ticket {
        assert_eq!(class, Class::Normal);
        assert!(deadline > now());
        assert!(
            rayon::current_thread_index().is_none(),
            "submitted from outside the pool"
        );
        let token = self.0.clone();
        let n = token.batches.fetch_add(1, SeqCst);
        if token.fault == Fault::Silent {
            token.held.lock().push(done);
            return Ticket(n);
        }
        std::thread::spawn(move || {
            let Mode::Inline(signer) = token.key.mode() else {
                return;
            };
            let mut out = Signatures::new();
            let mut result = signer.sign_batch(&batch, &mut out).map(|()| out);
            match token.fault {
                Fault::Gone => return,
                Fault::Fails => result = Err(SignFailure::Locked),
                Fault::WrongOnce if n > 0 => {}
                Fault::WrongOnce | Fault::AlwaysWrong => {
                    if let Ok(s) = &mut result {
                        s.fill(0, |s| {
                            s[5] ^= 1;
                            true
                        });
                    }
                }
                _ => {}
            }
            done(batch, result);
        });
        Ticket(n)
    }

    fn cancel(&self, _: Ticket) {
        self.0.cancelled.fetch_add(1, SeqCst);
    }
}

fn queued(fault: Fault, verified: bool) -> (Arc<Token>, ApexKey) {
    let key = software("15", Role::Csk);
    let token = Arc::new(Token {
        key,
        fault,
        verified,
        batches: AtomicU64::default(),
        cancelled: AtomicU64::default(),
        held: Default::default(),
    });
    (
        token.clone(),
        apex_key(Arc::new(TokenKey(token)), Role::Csk),
    )
}

fn through_token(fault: Fault) -> (Result<Signed, SignError>, Arc<Token>) {
    let base = small();
    let (token, key) = queued(fault, false);
    let p = plan(&base, &[key], nsec3(false));
    (run_with(&base, &p, 2, now(), &Progress::new()), token)
}

#[test]
fn token_gives_the_same_zone() {
    let (signed, _) = through_token(Fault::None);
    let signed = signed.unwrap();
    let base = small();
    let soft = run(
        &base,
        &plan(&base, &keys(&[("15", Role::Csk)]), nsec3(false)),
    );
    assert_eq!(records(&signed.version), records(&soft.version));
    assert_eq!(signed.report.signatures, soft.report.signatures);
}

#[test]
fn wrong_signature_is_made_again() {
    let (signed, token) = through_token(Fault::WrongOnce);
    let signed = signed.unwrap();
    assert_eq!(signed.report.keys[0].retries, 1);
    // One block, two units (CSK: two groups at the apex), one repeat.
    assert_eq!(token.batches.load(SeqCst), 1 + 3 + 1);
    let (refused, token) = through_token(Fault::AlwaysWrong);
    let refused = refused.unwrap_err();
    assert!(
        matches!(
            refused,
            SignError::Key {
                failure: SignFailure::WrongSignature,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(token.batches.load(SeqCst), 3);
}

/// Nobody verifies what was verified: a signature that is wrong all the same is the gate's matter.
#[test]
fn signatures_that_are_verified_already_are_not_verified_again() {
    let base = small();
    for fault in [Fault::None, Fault::WrongOnce] {
        let (token, key) = queued(fault, true);
        let p = plan(&base, &[key], nsec3(false));
        let signed = run_with(&base, &p, 2, now(), &Progress::new()).unwrap();
        assert_eq!(signed.report.keys[0].retries, 0);
        assert_eq!(token.batches.load(SeqCst), 1 + 3, "{fault:?}");
    }
}

#[test]
fn token_failures_end_the_job() {
    let failure = |fault| match through_token(fault).0.unwrap_err() {
        SignError::Key { failure, .. } => failure,
        e => panic!("{e}"),
    };
    assert_eq!(failure(Fault::Fails), SignFailure::Locked);
    assert_eq!(failure(Fault::Gone), SignFailure::Unreachable);
}

#[test]
fn waiting_for_a_token_can_be_cancelled() {
    let base = small();
    let (token, key) = queued(Fault::Silent, false);
    let p = plan(&base, &[key], nsec3(false));
    let progress = Progress::new();
    let result = std::thread::scope(|s| {
        let job = s.spawn(|| run_with(&base, &p, 1, now(), &progress));
        while token.batches.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        progress.cancel();
        job.join().unwrap()
    });
    assert_eq!(result.unwrap_err(), SignError::Cancelled);
    assert_eq!(token.cancelled.load(SeqCst), 1);
    // A late answer harms nobody.
    for done in token.held.lock().drain(..) {
        done(Batch::new(Input::Preimage), Err(SignFailure::Cancelled));
    }
}

#[test]
fn a_change_signed_by_a_token() {
    let base = small();
    let (token, key) = queued(Fault::WrongOnce, false);
    let prev = run(
        &base,
        &plan(&base, &keys(&[("15", Role::Csk)]), nsec3(false)),
    );
    let edit = Edit {
        key: b"b\0a\0".to_vec(),
        case: None,
        rtype: Rtype::TXT,
        set: Some((60, vec![b"\x01y".to_vec()])),
    };
    let changed = base
        .update(VersionId(5), now(), vec![edit])
        .unwrap()
        .version;
    // The same key, behind a queue now and under another id: everything is signed by it.
    let mut p = plan(&changed, std::slice::from_ref(&key), nsec3(false));
    p.serial = Serial(4712);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .build()
        .unwrap();
    let progress = Progress::new();
    let job = Job {
        pool: &pool,
        clock: &SimClock::new(now()),
        progress: &progress,
        class: Class::Normal,
        token_wait: std::time::Duration::from_secs(10),
    };
    let done = sign_from(
        &prev.version,
        &changed,
        &p,
        &Scope::everything(0),
        &job,
        now(),
    );
    let Resigned::Signed(signed, why) = done.unwrap() else {
        panic!("nothing signed")
    };
    let soft = run(&changed, &p_of_software(&changed));
    assert!(records(&signed.version) == records(&soft.version));
    assert_eq!((why, signed.report.kept), (None, 0));
    assert!(token.batches.load(SeqCst) > 2);
    // The next change is signed by the token alone, and little of it.
    let batches = token.batches.load(SeqCst);
    let mut next = plan(&changed, &[key], nsec3(false));
    next.serial = Serial(4713);
    let scope = Scope {
        even_if_equal: true,
        ..Scope::content(0)
    };
    let done = sign_from(&signed.version, &changed, &next, &scope, &job, now());
    let Resigned::Signed(signed, None) = done.unwrap() else {
        panic!("not from the version before")
    };
    assert_eq!(signed.report.signatures, 1);
    assert_eq!(token.batches.load(SeqCst), batches + 1);
}

fn p_of_software(base: &ZoneVersion) -> SigningPlan {
    let mut p = plan(base, &keys(&[("15", Role::Csk)]), nsec3(false));
    p.serial = Serial(4712);
    p
}
