"""Our own list of JSON texts, valid and not, made from the grammar of RFC 8259."""

from __future__ import annotations

WHITE = (" ", "\t", "\r", " \t \r ")

GOOD_NUMBERS = (
    "0", "-0", "1", "-1", "10", "1234567890", "0.0", "-0.0", "0.5", "1.25", "-12.75", "1e1", "1E1",
    "1e+1",
    "1e-1", "0e0", "0E+1", "1.5e3", "-1.5E-3", "123e45", "1e-400", "9007199254740993",
    "0.1000000000001",
)  # fmt: skip
BAD_NUMBERS = (
    "00", "01", "-01", "-", "+1", "+0", ".5", "-.5", "1.", "-1.", "1.e1", "1e", "1e+", "1E-",
    "1.5e", "0x1", "0b1",
    "1_000", "1,000", "NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf", "1f", "1.0.0", "1e1.5",
    "--1", "1-",
    "१", "１", "1 2", "0e", "- 1", "1e 1", "2.e+3", "0.e1", "1eE2", "0.3e+",
)  # fmt: skip
GOOD_STRINGS = (
    '""', '"a"', '"长城"', '"é"', '"\U0001f600"', '"\\""', '"\\\\"', '"\\/"', '"\\b\\f\\n\\r\\t"',
    '"\\u0000"',
    '"\\u0041"', '"\\u00e9"', '"\\uD83D\\uDE00"', '"\\ud83d\\ude00"', '"\x7f"', '"\u2028\u2029"',
    '"\\\\u0041"',
    '"\\u005C\\u0022"', '"\ufeff"', '"\\uFFFF"', '"[{"', '"/* */"', '" "',
)  # fmt: skip
BAD_STRINGS = (
    '"', '"a', 'a"', "'a'", '"\\"', '"\\x41"', '"\\a"', '"\\0"', '"\\u12"', '"\\u123g"',
    '"\\U0041"', '"\\u 041"',
    '"\x00"', '"\x01"', '"\x1f"', '"tab\there"', '"\\', '"\\u', '"\\ud800"', '"\\udc00"',
    '"\\ud800\\ud800"',
    '"\\udc00\\ud800"', '"\\ud800a"', '"\\ud83d\\n"', '"a" "b"', '""a', '"\\ud83d\\u"',
    '"\\uD83DDE00"', '`a`', '“a”',
)  # fmt: skip
GOOD_STRUCTURES = (
    "null", "true", "false", "[]", "{}", "[[]]", "[{}]", '{"a":1}', '{"":0}', '{"a":1,"a":2}',
    "[1,2,3]",
    '[null,true,false,1,"a",[],{}]', '{"a":{"b":{"c":[1,{"d":[]}]}}}', " [ 1 , 2 ] ", '{ "a" : 1 }',
    "[" * 60 + "]" * 60, '{"a":' * 60 + "1" + "}" * 60, '{"\\u0061":1,"a":2}', "[\t]",
    '{"a":[],"b":{}}',
)  # fmt: skip
BAD_STRUCTURES = (
    "", "[", "]", "{", "}", "[1", "1]", "[1,", "[,1]", "[1,]", "[1,,2]", "[1 2]", "[1:2]", "[1;2]",
    "(1)", "{1:2}",
    '{"a"}', '{"a":}', '{"a":1,}', '{,"a":1}', '{"a":1,,"b":2}', '{"a" 1}', '{"a"=1}', "{a:1}",
    "{'a':1}", '{"a":1',
    '{"a":1}}', "[]]", "[[]", "nul", "NULL", "None", "True", "FALSE", "undefined", "truefalse",
    "// c\n1", "/* c */1",
    "1 // c", "# c", "[1] [2]", "{} {}", "1,2", "\ufeff1", "\ufeff{}", "\x0c1", "\x0b1", "\xa01",
    "\u20281", "1\x00",
    "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65, "[" * 100_000, '[{"":' * 50_000, "b''",
    "=1", "<a/>", "@",
    '{"a":1]', '["a"}', '{"a":1 "b":2}', "[\x00]", '{"a":b}', "*", "\\u0031", "[1]x", "{}x", "...",
    "-Infinity,",
)  # fmt: skip
BAD_BYTES = (
    b"\xff", b'"\xff"', b'"\xc3"', b'"\xc0\xaf"', b'"\xe4\xb8"', b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"', b'"\x80"',
    '"é"'.encode("latin-1"), '"a"'.encode("utf-16"), '{"a":1}'.encode("utf-16-le"),
    '"a"'.encode("utf-32"), b"[\xfe]",
)  # fmt: skip

GOOD = (
    *GOOD_NUMBERS, *GOOD_STRINGS, *GOOD_STRUCTURES, *(f"{w}[{w}1{w},{w}2{w}]{w}" for w in WHITE),
    *(f"[{text}]" for text in (*GOOD_NUMBERS, *GOOD_STRINGS)),
    *(f"{{{text}:null}}" for text in GOOD_STRINGS),
)  # fmt: skip
BAD = (
    *BAD_NUMBERS, *BAD_STRINGS, *BAD_STRUCTURES, *(f"[{text}]" for text in (*BAD_NUMBERS,
    *BAD_STRINGS)),
    *(f"{{{text}:null}}" for text in BAD_STRINGS), *(f'{{"a":{text}}}' for text in BAD_NUMBERS),
)  # fmt: skip
