//! Words as a shell reads them. A quoted word has no newline, no control character and nothing that a terminal obeys,
//! so that no argument can forge a line; and what was written can be read back exactly.

/// Quotes one word: as it is, in single quotes, or as `$'…'` with escapes where neither is enough.
pub fn quote(word: &[u8]) -> String {
    match std::str::from_utf8(word) {
        Ok(text) if !text.is_empty() && text.bytes().all(is_plain) => text.to_owned(),
        Ok(text) if !text.chars().any(|char| char == '\'' || is_unprintable(char)) => format!("'{text}'"),
        _ => escape(word),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte)
}

/// Control characters, and what is invisible or turns the direction of a line.
fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

fn escape(word: &[u8]) -> String {
    let mut text = "$'".to_owned();
    for chunk in word.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' => text += "\\n",
                '\t' => text += "\\t",
                '\r' => text += "\\r",
                '\\' | '\'' => text.extend(['\\', char]),
                _ if !is_unprintable(char) => text.push(char),
                _ if char.is_ascii() => text += &format!("\\x{:02x}", u32::from(char)),
                _ if char <= '\u{ffff}' => text += &format!("\\u{:04x}", u32::from(char)),
                _ => text += &format!("\\U{:08x}", u32::from(char)),
            }
        }
        for byte in chunk.invalid() {
            text += &format!("\\x{byte:02x}");
        }
    }
    text.push('\'');
    text
}

/// The longest beginning of `word` whose form by `encode` fits into `room` bytes: that form, and the bytes it stands for.
pub fn fit(word: &[u8], room: usize, encode: impl Fn(&[u8]) -> String) -> (String, usize) {
    let mut length = word.len().min(room);
    loop {
        while length > 0 && length < word.len() && word[length] & 0xc0 == 0x80 {
            length -= 1;
        }
        let text = encode(&word[..length]);
        if text.len() <= room || length == 0 {
            return (text, length);
        }
        length = (length * room / text.len()).min(length - 1);
    }
}

/// Text on one line: what is unprintable is escaped, all else is as it was.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.trim_end().chars() {
        match char {
            '\n' => line += "\\n",
            '\t' => line.push(' '),
            _ if is_unprintable(char) => line.extend(char.escape_default()),
            _ => line.push(char),
        }
    }
    line
}

/// One word of a line, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A word that was quoted by [`quote`].
    Word(Vec<u8>),
    /// A word that no argument can be: `#`, `[cut:N]`.
    Mark(String),
}

/// Splits a line into its words; none if it was not written by [`quote`].
pub fn unquote(line: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = line.trim_start_matches(' ');
    while !rest.is_empty() {
        let token;
        if rest.starts_with(['#', '[']) {
            let end = rest.find(' ').unwrap_or(rest.len());
            token = Token::Mark(rest[..end].to_owned());
            rest = &rest[end..];
        } else {
            let mut word = Vec::new();
            while !rest.is_empty() && !rest.starts_with(' ') {
                rest = unquote_part(rest, &mut word)?;
            }
            token = Token::Word(word);
        }
        tokens.push(token);
        rest = rest.trim_start_matches(' ');
    }
    Some(tokens)
}

/// Takes one quoted or plain part of a word off `text`.
fn unquote_part<'a>(text: &'a str, word: &mut Vec<u8>) -> Option<&'a str> {
    if let Some(text) = text.strip_prefix("$'") {
        return unescape(text, word);
    }
    if let Some(text) = text.strip_prefix('\'') {
        let (quoted, rest) = text.split_once('\'')?;
        word.extend_from_slice(quoted.as_bytes());
        return Some(rest);
    }
    let end = text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len());
    word.extend_from_slice(&text.as_bytes()[..end]);
    (end > 0).then_some(&text[end..])
}

fn unescape<'a>(text: &'a str, word: &mut Vec<u8>) -> Option<&'a str> {
    let mut chars = text.chars();
    loop {
        let char = match chars.next()? {
            '\'' => return Some(chars.as_str()),
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                char @ ('\\' | '\'') => char,
                'u' => char::from_u32(hex(&mut chars, 4)?)?,
                'U' => char::from_u32(hex(&mut chars, 8)?)?,
                'x' => {
                    word.push(u8::try_from(hex(&mut chars, 2)?).ok()?);
                    continue;
                }
                _ => return None,
            },
            char => char,
        };
        word.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

fn hex(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<u32> {
    let (number, rest) = chars.as_str().split_at_checked(digits)?;
    *chars = rest.chars();
    u32::from_str_radix(number, 16).ok()
}

/// A word as text for people and JSON: itself if it is UTF-8, otherwise its quoted form.
pub fn readable(word: &[u8]) -> String {
    match String::from_utf8(word.to_vec()) {
        Ok(text) => text,
        Err(_) => quote(word),
    }
}

/// Reads one word back that [`quote`] has written.
pub fn read_word(text: &str) -> Option<String> {
    match unquote(text)?.as_slice() {
        [Token::Word(word)] => Some(readable(word)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_stay_and_others_are_quoted_as_a_shell_reads_them() {
        for (word, quoted) in [
            (&b"--bundle=/run/x"[..], "--bundle=/run/x"),
            (b"", "''"),
            (b"a b", "'a b'"),
            (b"$HOME", "'$HOME'"),
            (b"# id", "'# id'"),
            (b"[cut:5]", "'[cut:5]'"),
            (b"it's", r"$'it\'s'"),
            (b"a\nb", r"$'a\nb'"),
            (b"\x1b[2J", r"$'\x1b[2J'"),
            (b"\xff\xfe", r"$'\xff\xfe'"),
            ("\u{202e}x".as_bytes(), r"$'\u202ex'"),
            ("\u{85}".as_bytes(), r"$'\u0085'"),
            ("\u{e0041}".as_bytes(), r"$'\U000e0041'"),
            ("größe".as_bytes(), "'größe'"),
        ] {
            assert_eq!(quote(word), quoted);
        }
    }

    #[test]
    fn what_was_quoted_is_read_back_exactly() {
        let words: Vec<Vec<u8>> = vec![
            b"".to_vec(),
            b"\\n'\n\t\r".to_vec(),
            (0..=255).collect(),
            b"# [cut:3] 'x' $'y'".to_vec(),
            "ä\u{2028}\u{1F600}\u{e0041}".as_bytes().to_vec(),
        ];
        let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        assert!(!line.contains(|char: char| char.is_control()));
        let expected = words.into_iter().map(Token::Word).collect::<Vec<_>>();
        assert_eq!(unquote(&line), Some(expected));
    }

    #[test]
    fn a_shell_reads_the_same_words() {
        let words: [&[u8]; 4] = [b"it's\n", b"\x01\xff\\", "\u{202e}ä".as_bytes(), b"$HOME `id` \"x\""];
        let line = words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        let bash = std::process::Command::new("bash")
            .args(["-c", &format!("printf '%s\\0' {line} # 17-2b")])
            .env("LC_ALL", "C.UTF-8")
            .output()
            .unwrap();
        let expected: Vec<u8> = words.iter().flat_map(|word| [word, &b"\0"[..]].concat()).collect();
        assert_eq!(bash.stdout, expected);
    }

    #[test]
    fn a_long_word_is_cut_to_its_room_at_a_whole_character() {
        let (text, length) = fit("ä".repeat(100).as_bytes(), 21, quote);
        assert_eq!((text, length), (format!("'{}'", "ä".repeat(9)), 18));
        let (text, length) = fit(&[0xff; 1000], 100, quote);
        assert_eq!((text.len(), length), (99, 24));
    }
}
