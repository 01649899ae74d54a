//! Byte ranges: of a blob that is read, and of a chunk that is pushed. Pure.

/// What part of a body is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part {
        /// The first one.
        start: u64,
        /// How many.
        length: u64,
    },
    /// Bytes that are not there.
    Unsatisfiable,
}

/// Reads a `Range` header. Several ranges at once are answered by the whole body, which the protocol allows: nobody
/// needs them for blobs, and they are a known way to make a server work hard.
pub fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.strip_prefix("bytes=")) else {
        return Wanted::Whole;
    };
    let spec = spec.trim();
    if spec.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = spec.split_once('-') else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Number::None, Number::None) | (Number::Wrong, _) | (_, Number::Wrong) => Wanted::Whole,
        (Number::None, Number::Is(suffix)) if suffix > 0 && size > 0 => {
            let length = suffix.min(size);
            Wanted::Part { start: size - length, length }
        }
        (Number::Is(start), Number::None) if start < size => Wanted::Part { start, length: size - start },
        (Number::Is(start), Number::Is(last)) if start < size && start <= last => {
            Wanted::Part { start, length: last.min(size - 1) - start + 1 }
        }
        (Number::None | Number::Is(_), Number::None | Number::Is(_)) => Wanted::Unsatisfiable,
    }
}

enum Number {
    None,
    Is(u64),
    Wrong,
}

fn number(text: &str) -> Number {
    if text.is_empty() {
        Number::None
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 has: beyond every blob.
        Number::Is(text.parse().unwrap_or(u64::MAX))
    } else {
        Number::Wrong
    }
}

/// Reads the `Content-Range` of a pushed chunk: `first-last`, as the distribution specification has it (some clients
/// write the `bytes ` and the `/size` of HTTP around it).
pub fn chunk(header: &str) -> Option<(u64, u64)> {
    let spec = header.strip_prefix("bytes ").or_else(|| header.strip_prefix("bytes=")).unwrap_or(header);
    let spec = spec.split('/').next().unwrap_or(spec);
    let (first, last) = spec.split_once('-')?;
    match (number(first.trim()), number(last.trim())) {
        (Number::Is(first), Number::Is(last)) if first <= last && last < u64::MAX => Some((first, last)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_of_the_conformance_suite_are_read() {
        let part = |start, length| Wanted::Part { start, length };
        for (header, expected) in [
            ("bytes=500-1499", part(500, 1000)),
            ("bytes=500-", part(500, 1548)),
            ("bytes=-500", part(1548, 500)),
            ("bytes=2000-5000", part(2000, 48)),
            ("bytes=500-0", Wanted::Unsatisfiable),
            ("bytes=5000-10000", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("items=0-1", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 2048), expected, "{header}");
        }
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn chunk_ranges_are_read_in_both_spellings() {
        assert_eq!(chunk("0-99"), Some((0, 99)));
        assert_eq!(chunk("bytes 5-9/10"), Some((5, 9)));
        for wrong in ["", "-", "5", "9-5", "a-b", "0-18446744073709551615"] {
            assert_eq!(chunk(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn part_is_always_inside(text in "bytes=[0-9]{0,20}-[0-9]{0,20}", size: u64) {
            if let Wanted::Part { start, length } = wanted(Some(&text), size) {
                prop_assert!(length > 0 && start.checked_add(length).is_some_and(|end| end <= size));
            }
        }
    }
}
