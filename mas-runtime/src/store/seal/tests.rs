use std::collections::HashSet;
use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::store::StoreError;

/// The digits of a key that is the same in every run. Any 6 of them in a row are recognised in a text.
fn digits(seed: u8) -> String {
    let byte = |i: u8| seed.wrapping_mul(29).wrapping_add(i.wrapping_mul(i)) ^ 0x5a;
    (0..32).map(|i| format!("{:02x}", byte(i))).collect()
}

/// The keys of a file with these ids, each with the key of a seed.
pub(crate) fn keys(lines: &[(u32, u8)]) -> Keys {
    Keys::decode(Path::new("store.key"), text(lines).as_bytes()).unwrap()
}

fn text(lines: &[(u32, u8)]) -> String {
    let lines = lines
        .iter()
        .map(|(id, seed)| format!("{id} {}\n", digits(*seed)));
    format!("mas-store-key 1\n{}", lines.collect::<String>())
}

const STORE: StoreId = StoreId::from_bytes([7; 16]);

fn sealer(lines: &[(u32, u8)]) -> Sealer {
    Sealer::new(STORE, &keys(lines))
}

fn id(id: u32) -> KeyId {
    KeyId::new(id).unwrap()
}

/// An error and its causes as they may be shown.
fn shown(error: &KeyError) -> String {
    let mut text = format!("{error:?} {error:#?} {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(" {error:?} {error}");
        cause = error.source();
    }
    text
}

mod values {
    use super::*;

    proptest! {
        #[test]
        fn values_come_back(key in any::<Vec<u8>>(), value in any::<Vec<u8>>()) {
            let sealer = sealer(&[(1, 1), (2, 2)]);
            let sealed = sealer.seal(&key, &value).unwrap();
            prop_assert_eq!(sealed.len(), value.len() + SEALED_BYTES_EXTRA);
            prop_assert_eq!(sealer.open(&key, &sealed).unwrap(), value);
        }

        #[test]
        fn no_bytes_panic_and_none_open(bytes in any::<Vec<u8>>(), known in any::<bool>()) {
            let sealer = sealer(&[(1, 1)]);
            // With the head of a sealed value, or the first look ends most cases.
            let head: &[u8] = if known { &[0xe1, 0, 0, 0, 1] } else { &[] };
            let bytes = [head, &bytes].concat();
            prop_assert!(sealer.open(b"key", &bytes).is_err());
            if sealer.needs_reseal(&bytes) {
                prop_assert!(sealer.reseal(b"key", &bytes).is_err());
            }
        }
    }

    #[test]
    fn layout_1_stands_where_it_stood() {
        let sealed = sealer(&[(1, 1), (0x0102_0304, 2)])
            .seal(b"key", b"value")
            .unwrap();
        assert_eq!(sealed[..5], [0xe1, 1, 2, 3, 4]);
        assert_eq!(sealed.len(), 29 + 5 + 16);
    }

    /// Sealed by libsodium after the layout's description: whatever changes here, such a value must open.
    #[test]
    fn a_value_of_layout_1_opens() {
        let sealed = GOLDEN_VALUE.as_bytes().chunks(2);
        let sealed: Vec<u8> = sealed
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert_eq!(sealer(&[(1, 1)]).open(b"key", &sealed).unwrap(), "a value");
    }

    const GOLDEN_VALUE: &str = "e100000001000102030405060708090a0b0c0d0e0f10111213141516175ec0689097b5a47be35fc543dad0467f503ea286bf463a";

    #[test]
    fn a_changed_byte_is_found_wherever_it_is() {
        let sealer = sealer(&[(1, 1), (2, 2)]);
        let sealed = sealer.seal(b"key", b"some value").unwrap();
        for at in 0..sealed.len() {
            for with in 1..=255 {
                let mut changed = sealed.to_vec();
                changed[at] ^= with;
                assert!(sealer.open(b"key", &changed).is_err(), "byte {at} ^ {with}");
            }
        }
    }

    #[test]
    fn a_value_that_ends_early_or_late_is_found() {
        let sealer = sealer(&[(1, 1)]);
        let sealed = sealer.seal(b"key", b"some value").unwrap();
        for end in 0..sealed.len() {
            assert!(sealer.open(b"key", &sealed[..end]).is_err(), "{end} bytes");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert!(sealer.open(b"key", &longer).is_err());
    }

    #[test]
    fn a_value_stays_with_its_key_and_its_store() {
        let here = sealer(&[(1, 1)]);
        let sealed = here.seal(b"key", b"value").unwrap();
        for other in [&b"kez"[..], b"ke", b"key\0", b""] {
            assert!(here.open(other, &sealed).is_err());
        }
        let other = StoreId::from_bytes([8; 16]);
        let there = Sealer::new(other, &keys(&[(1, 1)]));
        let error = there.open(b"key", &sealed).unwrap_err();
        assert_eq!(error.reason, "its seal does not hold");
    }

    #[test]
    fn the_key_must_be_the_one() {
        let sealed = sealer(&[(1, 1)]).seal(b"key", b"value").unwrap();
        let error = sealer(&[(1, 2)]).open(b"key", &sealed).unwrap_err();
        assert_eq!(error.reason, "its seal does not hold");
        let error = sealer(&[(2, 1)]).open(b"key", &sealed).unwrap_err();
        assert_eq!(
            error.reason,
            "it is sealed under key 1, which the key file lacks"
        );
    }

    #[test]
    fn a_plain_value_never_opens() {
        let sealer = sealer(&[(1, 1)]);
        // As records begin, and as nothing does.
        for plain in [&[1, 0, 0][..], &[0xe0; 100], &[]] {
            let error = sealer.open(b"key", plain).unwrap_err();
            assert_eq!(error.reason, "it is not sealed");
        }
    }

    #[test]
    fn errors_do_not_name_secrets() {
        let key = crate::store::keys::secret("channel of alice");
        let error = sealer(&[(1, 1)]).open(&key, b"plain").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the stored secret can't be read: it is not sealed"
        );
    }

    #[test]
    fn no_nonce_comes_twice() {
        let sealer = sealer(&[(1, 1)]);
        let nonces: HashSet<Vec<u8>> = (0..10_000)
            .map(|_| sealer.seal(b"key", b"value").unwrap()[5..29].to_vec())
            .collect();
        assert_eq!(nonces.len(), 10_000);
    }
}

mod ring {
    use super::*;

    fn decode(text: &str) -> Result<Keys, KeyError> {
        Keys::decode(Path::new("store.key"), text.as_bytes())
    }

    /// Texts with faults, each with what is said of it.
    fn faults() -> Vec<(String, &'static str)> {
        let [a, b] = [digits(1), digits(2)];
        let whole = |text: &str| text.to_owned();
        let line = |line: &str| format!("mas-store-key 1\n{line}\n");
        let header = "does not begin with the line `mas-store-key 1`";
        let id = "does not begin with an id: a number from 1 to 4294967295 without leading zeros";
        let hex = "holds a key that is not 64 hexadecimal digits, with nothing behind them";
        let shape = "is not an id, one blank and a key";
        let weak = "holds a key whose bytes are all the same: make one at random";
        let cut = "does not end with a line break: its last line may be cut off";
        vec![
            (whole(""), header),
            (whole("\n"), header),
            (format!("1 {a}\n"), header),
            (format!("mas-store-key 01\n1 {a}\n"), header),
            (format!("mas-store-key 1 \n1 {a}\n"), header),
            (format!("mas-store-key 1\r\n1 {a}\n"), header),
            (format!("\u{feff}mas-store-key 1\n1 {a}\n"), header),
            (
                format!("mas-store-key 2\n1 {a}\n"),
                "has format 2, this version of mas reads 1: use the later version",
            ),
            (whole("mas-store-key 1\n"), "holds no key"),
            (whole("mas-store-key 1"), cut),
            (format!("mas-store-key 1\n1 {a}"), cut),
            (format!("mas-store-key 1\n1 {a}\n2 "), cut),
            (line(""), shape),
            (line("1"), shape),
            (line("# comment"), id),
            (line(&a), shape),
            (line(&format!("1\t{a}")), shape),
            (line(&format!("0 {a}")), id),
            (line(&format!("01 {a}")), id),
            (line(&format!("+1 {a}")), id),
            (line(&format!("-1 {a}")), id),
            (line(&format!(" 1 {a}")), id),
            (line(&format!("4294967296 {a}")), id),
            (line(&format!("{a} 1")), id),
            (line(&format!("1  {a}")), hex),
            (line(&format!("1 {a} ")), hex),
            (line(&format!("1 {a}\r")), hex),
            (line(&format!("1 {a}00")), hex),
            (line(&format!("1 {}", &a[..62])), hex),
            (line(&format!("1 {}", a.replace('5', "g"))), hex),
            (line(&format!("1 0x{}", &a[2..])), hex),
            (line(&format!("1 {}", "0".repeat(64))), weak),
            (line(&format!("1 {}", "5a".repeat(32))), weak),
            (
                format!("mas-store-key 1\n3 {a}\n3 {b}\n"),
                "has id 3 after 3: ids must rise from line to line",
            ),
            (
                format!("mas-store-key 1\n3 {a}\n2 {b}\n"),
                "has id 2 after 3: ids must rise from line to line",
            ),
            (
                format!("mas-store-key 1\n3 {a}\n4 {}\n", a.to_uppercase()),
                "holds the same key as the line of id 3: every line needs a key of its own",
            ),
            (
                text(&(1..=65).map(|i| (i, i as u8)).collect::<Vec<_>>()),
                "holds 64 keys, or more than that: remove those that no store needs",
            ),
        ]
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        for (text, said) in faults() {
            let error = decode(&text).unwrap_err();
            let shown = error.to_string();
            let place = match &error {
                KeyError::File { .. } => "the key file store.key ".to_owned(),
                KeyError::Line { line, .. } => format!("line {line} of the key file store.key "),
                other => panic!("{other:?}"),
            };
            assert_eq!(shown, place + said, "{text:?}");
        }
        let second = format!("{}4 \n", text(&[(3, 1)]));
        assert!(matches!(
            decode(&second),
            Err(KeyError::Line { line: 3, .. })
        ));
    }

    #[test]
    fn no_fault_shows_a_part_of_a_key() {
        let [a, b] = [digits(1), digits(2)];
        for (text, _) in faults() {
            let shown = shown(&decode(&text).unwrap_err()).to_lowercase();
            for secret in [&a, &b] {
                for start in 0..=58 {
                    let part = &secret[start..start + 6];
                    assert!(!shown.contains(part), "{shown}");
                }
            }
        }
    }

    #[test]
    fn the_last_key_seals_and_all_open() {
        let two = keys(&[(2, 1), (7, 2)]);
        assert_eq!(two.newest(), id(7));
        assert_eq!(two.ids().collect::<Vec<_>>(), [id(2), id(7)]);
        assert_eq!(two.path(), Path::new("store.key"));
        let sealed = sealer(&[(2, 1)]).seal(b"key", b"value").unwrap();
        let both = Sealer::new(STORE, &two);
        assert_eq!(both.open(b"key", &sealed).unwrap(), "value");
        assert_eq!(
            both.seal(b"key", b"value").unwrap()[..5],
            [0xe1, 0, 0, 0, 7]
        );
    }

    #[test]
    fn digits_may_be_large() {
        let large = text(&[(1, 1)]).replace(&digits(1), &digits(1).to_uppercase());
        let sealed = sealer(&[(1, 1)]).seal(b"key", b"value").unwrap();
        let large = Sealer::new(STORE, &decode(&large).unwrap());
        assert_eq!(large.open(b"key", &sealed).unwrap(), "value");
    }

    #[test]
    fn debug_shows_ids_and_no_key() {
        let keys = keys(&[(2, 1), (7, 2)]);
        let wanted = format!(
            "{:?}",
            Wanted::Sealed(Arc::new(self::super::keys(&[(2, 1), (7, 2)])))
        );
        let sealer = Sealer::new(STORE, &keys);
        let secret = format!("{:?}", keys.newest_secret());
        assert_eq!(secret, "Secret(..)");
        assert_eq!(
            format!("{keys:?}"),
            r#"Keys { path: "store.key", ids: [2, 7], .. }"#
        );
        assert_eq!(
            wanted,
            r#"Sealed(Keys { path: "store.key", ids: [2, 7], .. })"#
        );
        assert_eq!(
            format!("{sealer:?}"),
            "Sealer { store: StoreId(07070707070707070707070707070707), newest: 7, older: [2], .. }"
        );
        let pass = format!("{:?}", Pass::new(Arc::new(sealer)));
        assert!(pass.contains("older: [2], .. }"), "{pass}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), lines in "[0-9a-f \n]{0,200}") {
            let headed = [&b"mas-store-key 1\n"[..], &bytes].concat();
            let lined = format!("mas-store-key 1\n1 {}\n{lines}", digits(1));
            for bytes in [&bytes[..], &headed, lined.as_bytes()] {
                let _ = Keys::decode(Path::new("store.key"), bytes);
            }
        }
    }
}

mod checks {
    use super::*;

    fn check(lines: &[(u32, u8)]) -> Check {
        Check::new(&sealer(lines)).unwrap()
    }

    /// Its mark was sealed by libsodium after the layout's description: whatever changes here, such a check must be read, and
    /// know its key.
    const GOLDEN: &str = concat!(
        "mas-store-check 1\n",
        "store 07070707070707070707070707070707\n",
        "key 1 e10000000118191a1b1c1d1e1f202122232425262728292a2b2c2d2e2fe6fbed06cd2647af8b25a62bde76874071b4e2fe3b58f58f9eb90335d04bbd\n",
        "sum f0c4f93a\n",
    );

    #[test]
    fn a_check_of_layout_1_is_read_and_written_as_it_was() {
        let check = Check::decode(GOLDEN.as_bytes()).unwrap();
        assert_eq!(check.store(), STORE);
        assert_eq!(check.ids().collect::<Vec<_>>(), [id(1)]);
        assert_eq!(check.encode(), GOLDEN);
        check.verify(&keys(&[(1, 1)])).unwrap();
    }

    #[test]
    fn the_right_keys_are_known_and_open_values() {
        let before = sealer(&[(1, 1)]);
        let sealed = before.seal(b"key", b"value").unwrap();
        let check = Check::new(&before).unwrap();
        for lines in [&[(1, 1)][..], &[(1, 1), (2, 2)]] {
            let sealer = check.verify(&keys(lines)).unwrap();
            assert_eq!(sealer.open(b"key", &sealed).unwrap(), "value");
        }
    }

    #[test]
    fn a_wrong_key_is_named() {
        let error = check(&[(1, 1)])
            .verify(&keys(&[(1, 2), (2, 1)]))
            .unwrap_err();
        assert!(matches!(&error, KeyError::WrongKey { id, .. } if id.get() == 1));
        assert_eq!(
            error.to_string(),
            "key 1 of the key file store.key is not the one that the store is sealed with: give the key file of this store"
        );
    }

    #[test]
    fn an_older_key_is_verified_too() {
        let grown = check(&[(1, 1)]).with_newest(&sealer(&[(1, 1), (2, 2)]));
        let grown = grown.unwrap().unwrap();
        let error = grown.verify(&keys(&[(1, 3), (2, 2)])).unwrap_err();
        assert!(matches!(error, KeyError::WrongKey { id, .. } if id.get() == 1));
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = check(&[(2, 1)])
            .verify(&keys(&[(1, 1), (3, 2)]))
            .unwrap_err();
        assert!(matches!(&error, KeyError::MissingKey { id, .. } if id.get() == 2));
        assert_eq!(
            error.to_string(),
            "the store holds values under key 2, which the key file store.key lacks: put its line back"
        );
    }

    #[test]
    fn a_check_belongs_to_its_store() {
        let text = check(&[(1, 1)]).encode();
        let moved = text.replace(&"07".repeat(16), &"08".repeat(16));
        let body = &moved[..moved.find("sum ").unwrap()];
        let moved = format!("{body}sum {:08x}\n", crc32c::crc32c(body.as_bytes()));
        let error = Check::decode(moved.as_bytes())
            .unwrap()
            .verify(&keys(&[(1, 1)]));
        assert!(matches!(error, Err(KeyError::WrongKey { .. })));
    }

    #[test]
    fn the_newest_key_is_added_once() {
        let sealer = sealer(&[(1, 1), (2, 2)]);
        let grown = check(&[(1, 1)]).with_newest(&sealer).unwrap().unwrap();
        assert_eq!(grown.ids().collect::<Vec<_>>(), [id(1), id(2)]);
        assert_eq!(grown.with_newest(&sealer).unwrap(), None);
        assert_eq!(Check::decode(grown.encode().as_bytes()).unwrap(), grown);
    }

    #[test]
    fn the_largest_check_comes_back() {
        let ids: Vec<(u32, u8)> = (0..64).map(|i| (u32::MAX - 63 + i, i as u8)).collect();
        let mut check = check(&ids[..1]);
        for end in 2..=ids.len() {
            check = check.with_newest(&sealer(&ids[..end])).unwrap().unwrap();
        }
        let text = check.encode();
        assert_eq!(text.len(), CHECK_BYTES_MAX);
        assert_eq!(Check::decode(text.as_bytes()).unwrap(), check);
        assert!(Check::decode(format!("{text}\n").as_bytes()).is_err());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_damage() {
        let text = check(&[(1, 1)]).encode();
        for at in 0..text.len() {
            assert!(Check::decode(&text.as_bytes()[..at]).is_err(), "{at} bytes");
            for bit in 0..8 {
                let mut changed = text.clone().into_bytes();
                changed[at] ^= 1 << bit;
                assert!(Check::decode(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
        for more in ["\n", " ", "sum 00000000\n"] {
            assert!(Check::decode(format!("{text}{more}").as_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>(), lines in "(key |store |sum |[0-9a-f \n\u{e9}]){0,40}") {
            let headed = format!("mas-store-check 1\nstore {}\n{lines}", "07".repeat(16));
            for bytes in [&bytes[..], headed.as_bytes(), lines.as_bytes()] {
                prop_assert!(Check::decode(bytes).is_err());
            }
        }
    }
}

mod starts {
    use super::*;

    /// What comes of it, and the text that was kept.
    fn run(found: Found, wanted: Wanted) -> (Result<Start, KeyError>, Option<String>) {
        let mut kept = None;
        let result = start(found, &wanted, STORE, |text| {
            kept = Some(text.to_owned());
            Ok(())
        });
        (result, kept)
    }

    fn check(lines: &[(u32, u8)]) -> Check {
        Check::new(&sealer(lines)).unwrap()
    }

    fn sealed_wanted(lines: &[(u32, u8)]) -> [Wanted; 2] {
        let keys = Arc::new(keys(lines));
        [
            Wanted::Sealed(Arc::clone(&keys)),
            Wanted::SealExisting(keys),
        ]
    }

    #[test]
    fn plain_stays_plain() {
        for found in [Found::Empty, Found::Plain] {
            let (result, kept) = run(found, Wanted::Plain);
            assert!(matches!(result, Ok(Start::Plain)) && kept.is_none());
        }
    }

    #[test]
    fn a_new_store_keeps_its_check_before_it_seals() {
        for wanted in sealed_wanted(&[(1, 1)]) {
            let (result, kept) = run(Found::Empty, wanted);
            let Ok(Start::Sealed(sealer, check)) = result else {
                panic!("{result:?}");
            };
            assert_eq!(Check::decode(kept.unwrap().as_bytes()).unwrap(), check);
            assert_eq!((check.store(), sealer.store()), (STORE, STORE));
            check.verify(&keys(&[(1, 1)])).unwrap();
        }
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let [sealed, _] = sealed_wanted(&[(1, 1)]);
        let (result, kept) = run(Found::Plain, sealed);
        assert!(matches!(result, Err(KeyError::Plain)) && kept.is_none());
        for found in [Found::Sealing, Found::Sealed] {
            let (result, kept) = run(found(check(&[(1, 1)])), Wanted::Plain);
            assert!(matches!(result, Err(KeyError::Sealed)) && kept.is_none());
        }
    }

    #[test]
    fn a_plain_store_is_sealed_only_by_name_and_its_check_comes_first() {
        let [_, by_name] = sealed_wanted(&[(1, 1)]);
        let (result, kept) = run(Found::Plain, by_name);
        let Ok(Start::Sealing(sealer, check)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(Check::decode(kept.unwrap().as_bytes()).unwrap(), check);
        assert_eq!(
            sealer.open(b"key", b"\x01plain").unwrap(),
            &b"\x01plain"[..]
        );
        sealer.refuse_plain();
        assert!(sealer.open(b"key", b"\x01plain").is_err());
    }

    #[test]
    fn a_half_sealed_store_takes_no_value_that_is_neither() {
        let [sealed, _] = sealed_wanted(&[(1, 1)]);
        let (result, _) = run(Found::Sealing(check(&[(1, 1)])), sealed);
        let Ok(Start::Sealing(half, _)) = result else {
            panic!("{result:?}");
        };
        let mut value = half.seal(b"key", b"value").unwrap().to_vec();
        assert_eq!(half.open(b"key", &value).unwrap(), "value");
        *value.last_mut().unwrap() ^= 1;
        assert!(half.open(b"key", &value).is_err());
        assert!(half.open(b"key", b"").is_err());
    }

    #[test]
    fn a_sealed_store_opens_with_its_keys_and_keeps_nothing_new() {
        for (right, wrong) in sealed_wanted(&[(1, 1)])
            .into_iter()
            .zip(sealed_wanted(&[(1, 2)]))
        {
            let (result, kept) = run(Found::Sealed(check(&[(1, 1)])), right);
            assert!(matches!(result, Ok(Start::Sealed(..))) && kept.is_none());
            let (result, kept) = run(Found::Sealed(check(&[(1, 1)])), wrong);
            assert!(matches!(result, Err(KeyError::WrongKey { .. })) && kept.is_none());
        }
    }

    #[test]
    fn a_new_key_is_kept_before_it_seals() {
        let [sealed, _] = sealed_wanted(&[(1, 1), (2, 2)]);
        let (result, kept) = run(Found::Sealed(check(&[(1, 1)])), sealed);
        let Ok(Start::Sealed(sealer, check)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(sealer.newest(), id(2));
        assert_eq!(Check::decode(kept.unwrap().as_bytes()).unwrap(), check);
        assert_eq!(check.ids().collect::<Vec<_>>(), [id(1), id(2)]);
    }

    #[test]
    fn no_sealer_comes_out_when_the_check_was_not_kept() {
        for found in [Found::Empty, Found::Plain, Found::Sealed(check(&[(1, 1)]))] {
            let [_, wanted] = sealed_wanted(&[(1, 1), (2, 2)]);
            let full = |_: &str| Err(io::ErrorKind::StorageFull.into());
            let result = start(found, &wanted, STORE, full);
            assert!(matches!(
                result,
                Err(KeyError::Store(StoreError::Io { .. }))
            ));
        }
    }
}

mod rotations {
    use super::*;

    type Map = Vec<(Vec<u8>, bytes::Bytes)>;

    /// Leads a pass over a map, and puts every answer in its place.
    fn pass(sealer: &Arc<Sealer>, map: &mut Map) -> PassEnd {
        let mut pass = Pass::new(Arc::clone(sealer));
        for (key, value) in map.iter_mut() {
            if pass.visit(value)
                && let Ok(Some(resealed)) = sealer.reseal(key, value)
            {
                *value = resealed;
            }
        }
        assert_eq!(pass.seen(), map.len() as u64);
        pass.finish()
    }

    fn map(sealer: &Sealer) -> Map {
        let entry = |i: u8| {
            let key = vec![0x10, i];
            let sealed = sealer.seal(&key, &[i; 3]).unwrap();
            (key, sealed)
        };
        (0..10).map(entry).collect()
    }

    #[test]
    fn everything_comes_under_the_newest_key_and_the_old_one_goes() {
        let old = sealer(&[(1, 1)]);
        let mut map = map(&old);
        let check = Check::new(&old).unwrap();
        let sealer = Arc::new(check.verify(&keys(&[(1, 1), (2, 2)])).unwrap());
        let check = check.with_newest(&sealer).unwrap().unwrap();
        map[3].1 = sealer.seal(&map[3].0, b"written since").unwrap();

        let end = pass(&sealer, &mut map);
        assert!(matches!(end, PassEnd::Again { old: 9 }), "{end:?}");
        let PassEnd::Clean(clean) = pass(&sealer, &mut map) else {
            panic!("the first pass left values under the old key");
        };
        let check = check.without_old(&clean);
        assert_eq!(check.ids().collect::<Vec<_>>(), [id(2)]);

        let sealer = check.verify(&keys(&[(2, 2)])).unwrap();
        for (i, (key, value)) in map.iter().enumerate() {
            let plain = sealer.open(key, value).unwrap();
            assert_eq!(
                plain,
                if i == 3 {
                    b"written since".to_vec()
                } else {
                    vec![i as u8; 3]
                }
            );
        }
        let error = check.verify(&keys(&[(1, 1)])).unwrap_err();
        assert!(matches!(error, KeyError::MissingKey { .. }));
    }

    #[test]
    fn a_value_under_the_newest_key_stays_as_it_is() {
        let sealer = sealer(&[(1, 1), (2, 2)]);
        let sealed = sealer.seal(b"key", b"value").unwrap();
        assert!(!sealer.needs_reseal(&sealed));
        assert_eq!(sealer.reseal(b"key", &sealed).unwrap(), None);
    }

    #[test]
    fn a_value_is_not_resealed_for_another_key() {
        let sealed = sealer(&[(1, 1)]).seal(b"key", b"value").unwrap();
        let newer = sealer(&[(1, 1), (2, 2)]);
        let error = newer.reseal(b"other", &sealed).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt(_)));
    }

    #[test]
    fn damage_keeps_the_old_key() {
        let old = sealer(&[(1, 1)]);
        let sealer = Arc::new(sealer(&[(1, 1), (2, 2)]));
        let mut damaged = map(&old);
        damaged[5].1 = damaged[6].1.clone();
        for left in [10, 1, 1] {
            let end = pass(&sealer, &mut damaged);
            assert!(
                matches!(end, PassEnd::Again { old } if old == left),
                "{end:?}"
            );
        }
        let mut plain = map(&sealer);
        plain[5].1 = bytes::Bytes::from_static(b"plain");
        assert!(matches!(
            pass(&sealer, &mut plain),
            PassEnd::Again { old: 1 }
        ));
    }

    #[test]
    fn a_proof_counts_for_its_own_store() {
        let two = keys(&[(1, 1), (2, 2)]);
        let check = Check::new(&sealer(&[(1, 1)])).unwrap();
        let check = check
            .with_newest(&Sealer::new(STORE, &two))
            .unwrap()
            .unwrap();
        let other = StoreId::from_bytes([8; 16]);
        let PassEnd::Clean(clean) = Pass::new(Arc::new(Sealer::new(other, &two))).finish() else {
            panic!("a pass over nothing finds nothing");
        };
        assert_eq!(check.without_old(&clean), check);
    }
}
