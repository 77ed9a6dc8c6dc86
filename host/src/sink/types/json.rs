//! JSON as Postgres takes it: `json` keeps the text, `jsonb` takes it apart and so refuses more.

use super::Misfit;

/// Deeper values may exceed the server's stack (`max_stack_depth`, 2 MB by default).
const DEPTH_MAX: usize = 5_000;
/// Exponents and literals beyond this do not surely fit in numeric, as which jsonb keeps numbers.
const NUMBER_MAX: usize = 16_000;

/// Whether `text` is a JSON value that the column takes; `trusted` when its syntax is known to be right.
pub fn check(text: &[u8], binary: bool, trusted: bool) -> Result<(), Misfit> {
    if !trusted && let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        return Err(Misfit::new("bad-json", format!("is not JSON: {error}")));
    }
    if text.len() > DEPTH_MAX && depth(text) > DEPTH_MAX {
        return Err(Misfit::new("too-deep", format!("is nested deeper than {DEPTH_MAX} levels")));
    }
    if binary { Scan { text, at: 0 }.check() } else { Ok(()) }
}

fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Looks at escapes and numbers of a text whose syntax is right.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn check(mut self) -> Result<(), Misfit> {
        // Nearly all texts have neither.
        let has_escapes = self.text.contains(&b'\\');
        let has_exponents = self.text.len() > NUMBER_MAX
            || self.text.iter().any(|byte| matches!(byte, b'e' | b'E'));
        if !has_escapes && !has_exponents {
            return Ok(());
        }
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => self.string()?,
                b'0'..=b'9' => self.number()?,
                _ => {}
            }
        }
        Ok(())
    }

    /// jsonb stores characters, so an escape must name one.
    fn string(&mut self) -> Result<(), Misfit> {
        loop {
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => self.at += 1,
                None => return Ok(()),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Misfit> {
        let Some(unit) = self.unit() else {
            self.at += 2;
            return Ok(());
        };
        self.at += 6;
        match unit {
            0 => Err(Misfit::new("nul-character", "contains \\u0000, which jsonb cannot store")),
            0xD800..=0xDBFF if matches!(self.unit(), Some(0xDC00..=0xDFFF)) => {
                self.at += 6;
                Ok(())
            }
            0xD800..=0xDFFF => {
                Err(Misfit::new("lone-surrogate", "contains half of a surrogate pair"))
            }
            _ => Ok(()),
        }
    }

    /// The code unit of an escape such as `\u00e9` at the current place.
    fn unit(&self) -> Option<u16> {
        let escape = self.text.get(self.at..self.at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(escape).ok()?, 16).ok()
    }

    fn number(&mut self) -> Result<(), Misfit> {
        let start = self.at - 1;
        let rest = &self.text[start..];
        let len = rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
            .count();
        self.at = start + len;
        let literal = &rest[..len];
        let exponent = literal.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let fits = match exponent {
            _ if len > NUMBER_MAX => false,
            None => true,
            Some(at) => std::str::from_utf8(&literal[at + 1..]).is_ok_and(|digits| {
                digits
                    .parse::<i32>()
                    .is_ok_and(|value| value.unsigned_abs() as usize + len <= NUMBER_MAX)
            }),
        };
        if fits {
            Ok(())
        } else {
            Err(Misfit::of("out-of-range", "is a number that does not fit in jsonb", literal))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_both(text: &str, json: Option<&str>, jsonb: Option<&str>) {
        let code = |binary| check(text.as_bytes(), binary, false).err().map(|misfit| misfit.code);
        assert_eq!((code(false), code(true)), (json, jsonb), "{text}");
    }

    #[test]
    fn jsonb_refuses_what_it_cannot_store() {
        check_both(r#"{"a":[1,2.5e3,"x",null]}"#, None, None);
        check_both(r#""\u0000""#, None, Some("nul-character"));
        check_both(r#""\\u0000""#, None, None);
        check_both(r#""\ud83d\ude00""#, None, None);
        check_both(r#"{"\ude00":1}"#, None, Some("lone-surrogate"));
        check_both(r#""\ud83d\n""#, None, Some("lone-surrogate"));
        check_both("[1e999999]", None, Some("out-of-range"));
        check_both(r#"["1e999999"]"#, None, None);
        check_both("{", Some("bad-json"), Some("bad-json"));
        check_both("", Some("bad-json"), Some("bad-json"));
        let deep = "[".repeat(5_001) + &"]".repeat(5_001);
        check_both(&deep, Some("too-deep"), Some("too-deep"));
        let flat = format!("[{}[]]", "[],".repeat(5_001));
        check_both(&flat, None, None);
    }
}
