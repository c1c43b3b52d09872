//! Texts of others in what NICO says: conditions, rows, events and log lines.

/// Most characters of a text that NICO shows. Kubernetes allows 32 KiB in a condition; a person reads less.
pub const MAX_SHOWN: usize = 1024;

/// A text as it may be shown: what controls a terminal or a line, or changes the direction of writing, is escaped, and what is too
/// long is cut. Showing it twice changes nothing more.
#[must_use]
pub fn shown(text: &str) -> String {
    shown_in(text, usize::MAX)
}

/// A number with its noun: `1 machine`, `2 machines`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// The same as [`shown`] in at most so many bytes.
#[must_use]
pub fn shown_in(text: &str, most_bytes: usize) -> String {
    const MORE: char = '…';
    let mut shown = String::new();
    let mut count = 0;
    // Where the text is to end if it turns out to be too long.
    let mut end = 0;
    for c in text.chars() {
        let at = shown.len();
        if is_plain(c) {
            shown.push(c);
            count += 1;
        } else {
            let escaped = c.escape_default();
            count += escaped.len();
            shown.extend(escaped);
        }
        if count > MAX_SHOWN || shown.len() > most_bytes {
            shown.truncate(end);
            if MORE.len_utf8() <= most_bytes {
                shown.push(MORE);
            }
            return shown;
        }
        if count < MAX_SHOWN && shown.len().saturating_add(MORE.len_utf8()) <= most_bytes {
            end = shown.len();
        } else {
            end = end.min(at);
        }
    }
    shown
}

/// Whether a character is what it looks like: no control, no line or paragraph separator, no mark that is not seen (Unicode: general
/// categories Cc, Zl, Zp, and those of Cf that hide or reorder text).
fn is_plain(c: char) -> bool {
    !(c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_what_it_looks_like_is_escaped() {
        assert_eq!(
            shown("a\nb\t\u{1b}[31m\u{9b}\u{202e}\u{feff}é '\"\\"),
            "a\\nb\\t\\u{1b}[31m\\u{9b}\\u{202e}\\u{feff}é '\"\\"
        );
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let whole = "ä".repeat(MAX_SHOWN);
        assert_eq!(shown(&whole), whole);
        let cut = shown(&format!("{whole}ä"));
        assert_eq!(cut.chars().count(), MAX_SHOWN);
        assert!(cut.ends_with("ä…"));
        assert_eq!(shown_in(&whole, 9), "äää…");
        assert_eq!(shown_in("ääää", 8), "ääää");
        assert_eq!(shown_in("ää", 2), "");
    }

    #[test]
    fn one_thing_is_singular() {
        let counts = [0, 1, 2].map(|count| counted(count, "machine"));
        assert_eq!(counts, ["0 machines", "1 machine", "2 machines"]);
    }

    proptest! {
        #[test]
        fn any_text_is_short_plain_and_shown_the_same_again(
            text in prop_oneof![any::<String>(), "[\\PC\n\u{1b}\u{202e}]{0,2000}"],
            most in 0..3000_usize,
        ) {
            let once = shown_in(&text, most);
            prop_assert!(once.chars().all(is_plain));
            prop_assert!(once.chars().count() <= MAX_SHOWN && once.len() <= most);
            prop_assert_eq!(shown_in(&once, most), once);
        }
    }
}
