//! Made-up data, the same in every rendering: what a generator gives depends on the test's seed and
//! on how often it was called, so a call that is put in elsewhere changes nothing.

use std::collections::HashMap;

use fake::Fake;
use fake::faker::{
    address::en as address, company::en as company, filesystem::en as filesystem,
    internet::en as internet, lorem::en as lorem, name::en as name, phone_number::en as phone,
};
use fake::rand::rngs::StdRng;
use fake::rand::{RngExt, SeedableRng};
use tera::Value;

/// Where chance comes from.
pub(crate) type Random = StdRng;

type Arguments = HashMap<String, Value>;

/// A function that makes something up.
pub(super) type Generator = fn(&mut Random, &Arguments) -> Result<Value, String>;

/// Chance for one call of a generator.
pub(super) fn random(seed: u64, generator: &str, call: u64) -> Random {
    let mut hasher = blake3::Hasher::new_derive_key("clnrm generators");
    hasher.update(&seed.to_le_bytes()).update(&call.to_le_bytes()).update(generator.as_bytes());
    StdRng::from_seed(*hasher.finalize().as_bytes())
}

/// Makes one thing up, and takes nothing but a seed.
type Simple = fn(&mut Random) -> Value;

/// Those that take nothing but a seed.
const SIMPLE: [(&str, Simple); 31] = [
    ("uuid_v4", |random| uuid(random).into()),
    ("trace_id", |random| hex(random, 16).into()),
    ("span_id", |random| hex(random, 8).into()),
    ("fake_uuid", |random| uuid(random).into()),
    ("fake_name", |random| text(name::Name(), random)),
    ("fake_first_name", |random| text(name::FirstName(), random)),
    ("fake_last_name", |random| text(name::LastName(), random)),
    ("fake_title", |random| text(name::Title(), random)),
    ("fake_email", |random| text(internet::SafeEmail(), random)),
    ("fake_username", |random| text(internet::Username(), random)),
    ("fake_password", |random| text(internet::Password(12..20), random)),
    ("fake_domain", |random| domain(random).into()),
    ("fake_url", |random| format!("https://{}/{}", domain(random), word(random)).into()),
    ("fake_ipv4", |random| text(internet::IPv4(), random)),
    ("fake_ipv6", |random| text(internet::IPv6(), random)),
    ("fake_mac_address", |random| text(internet::MACAddress(), random)),
    ("fake_user_agent", |random| text(internet::UserAgent(), random)),
    ("fake_street", |random| text(address::StreetName(), random)),
    ("fake_city", |random| text(address::CityName(), random)),
    ("fake_state", |random| text(address::StateName(), random)),
    ("fake_zip", |random| text(address::ZipCode(), random)),
    ("fake_country", |random| text(address::CountryName(), random)),
    ("fake_phone", |random| text(phone::PhoneNumber(), random)),
    ("fake_company", |random| text(company::CompanyName(), random)),
    ("fake_industry", |random| text(company::Industry(), random)),
    ("fake_word", |random| word(random).into()),
    ("fake_sentence", |random| text(lorem::Sentence(4..10), random)),
    ("fake_paragraph", |random| text(lorem::Paragraph(2..5), random)),
    ("fake_bool", |random| random.random_bool(0.5).into()),
    ("fake_filename", |random| text(filesystem::FileName(), random)),
    ("fake_timestamp", |random| random.random_range(1_577_836_800_i64..1_893_456_000).into()),
];

/// Those that take more.
const OTHERS: [(&str, Generator); 9] = [
    ("fake_int", integer),
    ("fake_int_range", integer),
    ("get_random", integer_below),
    ("fake_float", float),
    ("fake_string", string),
    ("fake_words", words),
    ("fake_datetime", datetime),
    ("pick", pick),
    ("traceparent", traceparent),
];

/// Every generator by its name.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, Box<dyn Generate>)> {
    let simple = SIMPLE.into_iter().map(|(name, generate)| {
        let generate = move |random: &mut Random, _: &Arguments| Ok(generate(random));
        (name, Box::new(generate) as Box<dyn Generate>)
    });
    simple.chain(OTHERS.into_iter().map(|(name, generate)| (name, Box::new(generate) as Box<_>)))
}

/// A boxed [`Generator`].
pub(crate) trait Generate:
    Fn(&mut Random, &Arguments) -> Result<Value, String> + Send + Sync
{
}

impl<T: Fn(&mut Random, &Arguments) -> Result<Value, String> + Send + Sync> Generate for T {}

/// The names of a generator's parameters.
pub(super) fn parameters(generator: &str) -> Option<&'static [&'static str]> {
    match generator {
        "fake_int" | "fake_int_range" | "fake_float" => return Some(&["min", "max", "seed"]),
        "fake_string" => return Some(&["length", "seed"]),
        "fake_words" => return Some(&["count", "seed"]),
        _ => {}
    }
    let known = SIMPLE.iter().map(|(name, _)| *name).chain(OTHERS.iter().map(|(name, _)| *name));
    known.into_iter().any(|name| name == generator).then_some(&["seed"])
}

fn text<F>(faker: F, random: &mut Random) -> Value
where
    String: fake::Dummy<F>,
{
    faker.fake_with_rng::<String, _>(random).into()
}

fn word(random: &mut Random) -> String {
    lorem::Word().fake_with_rng(random)
}

fn domain(random: &mut Random) -> String {
    let suffix: String = internet::DomainSuffix().fake_with_rng(random);
    format!("{}.{suffix}", word(random))
}

fn hex(random: &mut Random, bytes: usize) -> String {
    // All zeros is no id.
    let first = random.random_range(1..=u8::MAX);
    let rest = (1..bytes).map(|_| random.random::<u8>());
    std::iter::once(first)
        .chain(rest.collect::<Vec<_>>())
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn uuid(random: &mut Random) -> String {
    let mut bytes: [u8; 16] = random.random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn bound<T>(
    arguments: &Arguments,
    name: &str,
    of: fn(&Value) -> Option<T>,
    default: T,
) -> Result<T, String> {
    match arguments.get(name) {
        None => Ok(default),
        Some(value) => {
            of(value).ok_or_else(|| format!("`{name}` is {value}, which is no such number"))
        }
    }
}

fn integer(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    let min = bound(arguments, "min", Value::as_i64, 0)?;
    let max = bound(arguments, "max", Value::as_i64, 1000)?;
    if min > max {
        return Err(format!("nothing is at least {min} and at most {max}"));
    }
    Ok(random.random_range(min..=max).into())
}

/// Tera's own: the end is not reached.
fn integer_below(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    let start = bound(arguments, "start", Value::as_i64, 0)?;
    let end = bound(arguments, "end", Value::as_i64, i64::MAX)?;
    if start >= end {
        return Err(format!("nothing is at least {start} and less than {end}"));
    }
    Ok(random.random_range(start..end).into())
}

fn float(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    let min = bound(arguments, "min", Value::as_f64, 0.0)?;
    let max = bound(arguments, "max", Value::as_f64, 1.0)?;
    if min > max {
        return Err(format!("nothing is at least {min} and at most {max}"));
    }
    Ok((min + random.random::<f64>() * (max - min)).into())
}

/// The most a generator makes in one call.
const MOST: u64 = 100_000;

fn string(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let length = bound(arguments, "length", Value::as_u64, 12)?;
    if length > MOST {
        return Err(format!("`length` is {length}, the most is {MOST}"));
    }
    let letter = |_| char::from(LETTERS[random.random_range(0..LETTERS.len())]);
    Ok((0..length).map(letter).collect::<String>().into())
}

fn words(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    let count = bound(arguments, "count", Value::as_u64, 3)?;
    if count > MOST {
        return Err(format!("`count` is {count}, the most is {MOST}"));
    }
    let words: Vec<String> = (0..count).map(|_| word(random)).collect();
    Ok(words.join(" ").into())
}

fn datetime(random: &mut Random, _: &Arguments) -> Result<Value, String> {
    let seconds = random.random_range(1_577_836_800_i64..1_893_456_000);
    let time = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    Ok(time.to_string().into())
}

fn pick(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    match arguments.get("from") {
        Some(Value::Array(items)) if !items.is_empty() => {
            Ok(items[random.random_range(0..items.len())].clone())
        }
        Some(other) => Err(format!("`from` must be a list with something in it, it is {other}")),
        None => Err("the argument `from` is missing".to_owned()),
    }
}

/// A W3C trace context header.
fn traceparent(random: &mut Random, arguments: &Arguments) -> Result<Value, String> {
    let given = |name: &str, bytes: usize, random: &mut Random| match arguments.get(name) {
        None => Ok(hex(random, bytes)),
        Some(Value::String(id)) if id.len() == 2 * bytes => Ok(id.clone()),
        Some(other) => Err(format!("`{name}` must have {} hex digits, it is {other}", 2 * bytes)),
    };
    let (trace, span) = (given("trace_id", 16, random)?, given("span_id", 8, random)?);
    let flags = if arguments.get("sampled") == Some(&Value::Bool(false)) { "00" } else { "01" };
    Ok(format!("00-{trace}-{span}-{flags}").into())
}
