//! One batch on its way through an HSM: split into requests, each signature verified, wrong ones
//! asked for again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cascade_crypto::{Batch, Completion, Dnskey, SignFailure, Signatures, verify};
use cascade_kmip::client::{Answer, AnswerError, Broken, ask};
use cascade_kmip::enums::BatchErrorContinuation;
use cascade_kmip::link::{Call, NotSent, Outcome};
use cascade_kmip::payload::ResponsePayload;
use cascade_kmip::{KeyKind, Mechanism, fixed_signature};
use parking_lot::{Mutex, RwLock};

use super::device::Device;
use super::kind::sign_input;

/// A wrong signature is asked for again this often.
const ATTEMPTS: u32 = 3;

/// What is needed to have something signed by a key and to judge the result.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server's name of the private half.
    pub private: String,
    pub dnskey: Dnskey,
    pub kind: KeyKind,
    pub mechanism: Mechanism,
    pub sig_len: usize,
}

/// How a batch is to be signed.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub class: usize,
    pub patience: Duration,
    pub group: u64,
    /// This instance and no other.
    pub instance: Option<usize>,
    /// Wrong signatures are asked for again.
    pub again: bool,
    /// Wrong signatures are the HSM's fault, and not that of whoever named the key.
    pub blame: bool,
}

struct Gather {
    device: Arc<Device>,
    target: Target,
    how: How,
    batch: RwLock<Batch>,
    signatures: Mutex<Signatures>,
    failure: Mutex<Option<SignFailure>>,
    left: AtomicUsize,
    done: Mutex<Option<Completion>>,
}

/// Has `batch`, which holds preimages, signed. `done` is called once, never from within this.
pub fn sign(device: &Arc<Device>, target: Target, batch: Batch, how: How, done: Completion) {
    let n = batch.len();
    let mut signatures = Signatures::new();
    signatures.reset(target.sig_len, n);
    let each = device
        .pool()
        .sign_batch(target.private.len(), target.sig_len);
    let gather = Arc::new(Gather {
        device: device.clone(),
        target,
        how,
        batch: RwLock::new(batch),
        signatures: Mutex::new(signatures),
        failure: Mutex::new(None),
        left: AtomicUsize::new(n),
        done: Mutex::new(Some(done)),
    });
    if n == 0 {
        let g = gather.clone();
        device.compute(move || g.finish(0));
    }
    let all: Vec<usize> = (0..n).collect();
    for items in all.chunks(each) {
        gather.send(items.to_vec(), 1);
    }
}

impl Gather {
    fn send(self: &Arc<Self>, items: Vec<usize>, attempt: u32) {
        let digests = self.device.takes_digests();
        let t = &self.target;
        let payloads = {
            let batch = self.batch.read();
            let input = |i: &usize| sign_input(t.mechanism, batch.item(*i), digests);
            let one = |i: &usize| ask::sign(&t.private, t.mechanism, input(i));
            items.iter().map(one).collect()
        };
        let g = self.clone();
        self.device.submit(Call {
            payloads,
            on_error: BatchErrorContinuation::Continue,
            class: self.how.class,
            group: self.how.group,
            instance: self.how.instance,
            patience: self.how.patience,
            done: Box::new(move |outcome| {
                // Verification takes longer than a thread of the network may be kept.
                let device = g.device.clone();
                device.compute(move || g.take(items, attempt, outcome));
            }),
        });
    }

    fn take(self: Arc<Self>, items: Vec<usize>, attempt: u32, outcome: Outcome) {
        let n = items.len();
        let (instance, answers) = match outcome {
            Outcome::Answered { instance, answers } => (instance, answers),
            Outcome::NotSent(why) => {
                self.fail(not_sent(&self.device.id, &why));
                return self.finish(n);
            }
        };
        let mut wrong = Vec::new();
        for (i, answer) in items.into_iter().zip(answers) {
            match self.judge(i, answer) {
                Ok(true) => {}
                Ok(false) => wrong.push(i),
                Err(failure) => self.fail(failure),
            }
        }
        let bad = wrong.len();
        if bad > 0 {
            if self.how.blame {
                self.device.note_wrong(instance, bad, &self.target.dnskey);
            }
            if self.how.again && attempt < ATTEMPTS {
                self.send(wrong, attempt + 1);
                return self.finish(n - bad);
            }
            self.fail(SignFailure::WrongSignature);
        }
        self.finish(n);
    }

    /// True if the signature is right; it is kept then.
    fn judge(&self, i: usize, answer: Answer) -> Result<bool, SignFailure> {
        let signature = match answer {
            Ok(ResponsePayload::Sign { signature, .. }) => signature,
            Ok(_) => return Ok(false),
            Err(e) => return Err(refused(&self.device.id, &e)),
        };
        let t = &self.target;
        let Some(signature) = fixed_signature(t.kind, &signature) else {
            return Ok(false);
        };
        if !verify(&t.dnskey, self.batch.read().item(i), &signature) {
            return Ok(false);
        }
        self.signatures.lock().set(i, &signature);
        self.device.note_signed(1);
        Ok(true)
    }

    fn fail(&self, failure: SignFailure) {
        self.failure.lock().get_or_insert(failure);
    }

    /// `n` items will not be heard of again.
    fn finish(&self, n: usize) {
        if self.left.fetch_sub(n, Ordering::AcqRel) > n {
            return;
        }
        let Some(done) = self.done.lock().take() else {
            return;
        };
        let input = self.batch.read().input();
        let batch = std::mem::replace(&mut *self.batch.write(), Batch::new(input));
        let result = match self.failure.lock().take() {
            Some(failure) => Err(failure),
            None => Ok(std::mem::take(&mut *self.signatures.lock())),
        };
        done(batch, result);
    }
}

/// Why a request that was not sent gives no signatures.
pub fn not_sent(hsm: &str, why: &NotSent) -> SignFailure {
    match why {
        NotSent::Cancelled => SignFailure::Cancelled,
        NotSent::Full | NotSent::Expired => SignFailure::Timeout,
        NotSent::Down(_) | NotSent::Closed => SignFailure::Away {
            hsm: hsm.to_string(),
            why: why.to_string(),
        },
    }
}

fn refused(hsm: &str, e: &AnswerError) -> SignFailure {
    let (hsm, why) = (hsm.to_string(), e.to_string());
    match e {
        _ if e.is_gone() => SignFailure::KeyNotFound,
        AnswerError::Lost {
            reason: Broken::TimedOut(_),
            ..
        } => SignFailure::Timeout,
        _ if e.is_temporary() => SignFailure::Away { hsm, why },
        _ => SignFailure::Refused { hsm, why },
    }
}
