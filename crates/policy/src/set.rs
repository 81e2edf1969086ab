//! Policies by name: reading a directory's files as one set, and comparing sets.

/// Names of policies and HSMs: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.len() <= 63
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}
