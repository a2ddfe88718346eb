//! GVariant texts, as GLib's documentation has them.

use super::parse;

/// The type, and the value as it is printed.
fn read(text: &str) -> (String, String) {
    let value = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
    (value.value_signature().to_string(), value.to_string())
}

#[test]
fn a_value_without_a_type_has_the_usual_one() {
    for (text, signature, printed) in [
        ("1", "i", "1"),
        (" -0x1F ", "i", "-31"),
        ("010", "i", "8"),
        ("0", "i", "0"),
        ("+5", "i", "5"),
        ("1.5", "d", "1.5"),
        ("1e3", "d", "1000."),
        ("-1.5e-1", "d", "-0.15"),
        ("inf", "d", "inf"),
        ("true", "b", "true"),
        ("'it\\'s'", "s", "\"it's\""),
        ("\"a\\u00e4\\U0001f600\\n\"", "s", "\"aä😀\\n\""),
        ("b'a\\101\\n'", "ay", "b\"aA\\n\""),
        ("[1, 2]", "ai", "[1, 2]"),
        ("('a', 1)", "(si)", "(\"a\", 1)"),
        ("(1,)", "(i)", "(1,)"),
        ("<uint32 5>", "v", "<uint32 5>"),
        ("[<1>, <'a'>]", "av", "[<1>, <\"a\">]"),
        ("{'a': <1>, 'b': <true>}", "a{sv}", "{\"a\": <1>, \"b\": <true>}"),
        ("[('/dev/null', 'rw')]", "a(ss)", "[(\"/dev/null\", \"rw\")]"),
    ] {
        assert_eq!(read(text), (signature.to_owned(), printed.to_owned()), "{text}");
    }
}

#[test]
fn a_type_is_said_by_a_word_or_a_signature_and_holds_for_the_whole_array() {
    for (text, signature) in [
        ("byte 0xff", "y"),
        ("int16 -5", "n"),
        ("uint16 5", "q"),
        ("int32 5", "i"),
        ("uint32 5", "u"),
        ("int64 5", "x"),
        ("uint64 18446744073709551615", "t"),
        ("double 5", "d"),
        ("boolean true", "b"),
        ("string 'x'", "s"),
        ("objectpath '/a/b'", "o"),
        ("signature 'a{sv}'", "g"),
        ("@t 5", "t"),
        ("@as []", "as"),
        ("@a(ss) [('a', 'b')]", "a(ss)"),
        ("@a{sv} {}", "a{sv}"),
        ("@ay [1, 2]", "ay"),
        ("[1, uint64 2, 3]", "at"),
        ("['/a', objectpath '/b']", "ao"),
        ("[[], [1]]", "aai"),
        ("[@ai [], [1]]", "aai"),
        ("[(1, []), (2, ['a'])]", "a(ias)"),
        ("[1, 2.5]", "ad"),
    ] {
        assert_eq!(read(text).0, signature, "{text}");
    }
}

#[test]
fn what_is_no_text_of_a_value_is_refused() {
    for text in [
        "",
        "1 2",
        "invalid-value",
        "'open",
        "b'open",
        "[1, 'a']",
        "[",
        "[]",
        "{1, 2}",
        "()",
        "byte 256",
        "byte -1",
        "uint32 -1",
        "08",
        "0x",
        "1x",
        "1.5.2",
        "--1",
        "int32 1.5",
        "boolean 1",
        "@zz 1",
        "@as [1]",
        "@s 1",
        "maybe 5",
        "just 1",
        "nothing",
        "objectpath 'a'",
        "'\\u12'",
        "'\\u0000'",
        "b'\\777'",
        "handle 1",
        "<1",
        "{[1]: 2}",
        "@i",
        "1,",
        "true false",
    ] {
        assert!(parse(text).is_err(), "{text}: {:?}", parse(text));
    }
    assert!(parse(&format!("{}1{}", "[".repeat(100), "]".repeat(100))).is_err());
    assert!(parse(&"(".repeat(1_000_000)).is_err());
}
