//! The little that `why~"…"` needs of patterns: literal text, `.`, `[0-9]`, and `+` or `*` after one.

#[derive(Clone, Copy)]
enum One {
    Any,
    Digit,
    Is(char),
}

impl One {
    fn fits(self, c: char) -> bool {
        match self {
            One::Any => true,
            One::Digit => c.is_ascii_digit(),
            One::Is(w) => w == c,
        }
    }
}

/// Whether `pattern` occurs in `text`.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pieces = pieces(pattern);
    let text: Vec<char> = text.chars().collect();
    (0..=text.len()).any(|i| from(&pieces, &text[i..]))
}

fn pieces(pattern: &str) -> Vec<(One, usize, bool)> {
    let mut out: Vec<(One, usize, bool)> = Vec::new();
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        let one = match c {
            '.' => One::Any,
            '[' if rest.starts_with("0-9]") => {
                rest = &rest[4..];
                One::Digit
            }
            '\\' => {
                let next = rest.chars().next().unwrap_or('\\');
                rest = rest.get(next.len_utf8()..).unwrap_or("");
                One::Is(next)
            }
            '+' | '*' if !out.is_empty() => {
                if let Some(last) = out.last_mut() {
                    last.1 = usize::from(c == '+');
                    last.2 = true;
                }
                continue;
            }
            c => One::Is(c),
        };
        out.push((one, 1, false));
    }
    out
}

fn from(pieces: &[(One, usize, bool)], text: &[char]) -> bool {
    let Some(((one, least, many), rest)) = pieces.split_first().map(|(p, r)| (*p, r)) else {
        return true;
    };
    let most = if many { text.len() } else { least };
    let run = text.iter().take(most).take_while(|c| one.fits(**c)).count();
    run >= least && (least..=run).rev().any(|n| from(rest, &text[n..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn text_digits_and_repetition() {
        assert!(matches(
            "old DS [0-9]+ still",
            "an old DS 31203 still there"
        ));
        assert!(!matches("old DS [0-9]+ still", "an old DS  still there"));
        assert!(matches("a.*z", "xx a then z"));
        assert!(matches(r"1\.2", "v1.2") && !matches(r"1\.2", "v1x2"));
        assert!(matches("", ""));
    }
}
