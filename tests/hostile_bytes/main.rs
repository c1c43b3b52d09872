//! Each decoder of what machines, API servers and tenants send, on any bytes: none panics, and none takes more than a fixed multiple of
//! its input (L7). Memory and steps are counted as the bytes that are allocated in all, so this is one test: others would be counted, too.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod machines;
mod objects;

use std::alloc::System;
use std::cell::Cell;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use serde_json::Value;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MIB: usize = 1024 * 1024;

struct Decoder {
    name: &'static str,
    decode: fn(&[u8]),
    /// Longest input that is read on: what is longer is refused for its length.
    longest: usize,
    /// Bytes that may be allocated whatever the input is: buffers of a parser, and what a refusal says.
    base: usize,
    /// Most bytes allocated for each byte of input.
    times: usize,
    /// Most bytes allocated for any input.
    most: usize,
    /// What such inputs consist of.
    words: &'static [&'static str],
    /// Keys of objects, where such inputs are JSON.
    keys: &'static [&'static str],
    /// Well-formed inputs with one part again and again: what stands before it, the part, and what stands after it.
    floods: &'static [(&'static str, &'static str, &'static str)],
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// JSON of the right keys and of any shape.
fn json(decoder: &'static Decoder) -> impl Strategy<Value = Value> {
    let text = prop_oneof![select(decoder.words), select(decoder.keys), Just("")];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 256, 12, |inner| {
        let key = select(decoder.keys).prop_map(str::to_owned);
        prop_oneof![
            vec(inner.clone(), 0..12).prop_map(Value::from),
            btree_map(key, inner, 0..12).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Decodes, and says how many bytes were allocated for each byte of input.
fn times(decoder: &Decoder, input: &[u8]) -> Result<usize, TestCaseError> {
    let region = Region::new(ALLOCATOR);
    (decoder.decode)(input);
    let change = region.change();
    let grown = usize::try_from(change.bytes_reallocated).unwrap_or_default();
    let allocated = change.bytes_allocated + grown;
    let times = allocated.saturating_sub(decoder.base) / input.len().max(1);
    let start = text(&input[..input.len().min(200)]);
    prop_assert!(
        times <= decoder.times && allocated <= decoder.most,
        "{}: {allocated} bytes for {} ({times} times): {start}",
        decoder.name,
        input.len()
    );
    Ok(times)
}

#[test]
fn any_bytes_cost_a_fixed_multiple_of_their_length() {
    for decoder in machines::DECODERS.iter().chain(objects::DECODERS) {
        let most = Cell::new(0);
        // What is made once, as the tables of regular expressions are, is no cost of an input.
        (decoder.decode)(objects::WHOLE_SPEC.as_bytes());
        (decoder.decode)(b"7");
        let config = ProptestConfig {
            cases: 200,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let bytes = vec(any::<u8>(), 0..4096);
        let words = vec(select(decoder.words), 0..1500);
        let words = words.prop_map(|words| words.concat().into_bytes());
        // One word again and again, between others: what is deep, and what is many.
        let repeated = (
            vec(select(decoder.words), 0..8),
            vec(select(decoder.words), 1..4),
            1..decoder.longest,
        );
        let repeated = repeated.prop_map(|(before, again, length)| {
            let (mut text, again) = (before.concat(), again.concat());
            while text.len() + again.len() <= length {
                text.push_str(&again);
            }
            text.into_bytes()
        });
        let input = if decoder.keys.is_empty() {
            prop_oneof![bytes, words, repeated].boxed()
        } else {
            let json = json(decoder).prop_map(|json| json.to_string().into_bytes());
            prop_oneof![bytes, words, repeated, json].boxed()
        };
        let outcome = TestRunner::new(config).run(&input, |input| {
            most.set(most.get().max(times(decoder, &input)?));
            Ok(())
        });
        println!(
            "{}: at most {} bytes for each byte",
            decoder.name,
            most.get()
        );
        outcome.unwrap();
        for (before, part, after) in decoder.floods {
            let room = decoder.longest - before.len() - after.len();
            let input = format!("{before}{}{after}", part.repeat(room / part.len()));
            let times = times(decoder, input.as_bytes()).unwrap();
            println!("{}: {times} for {part:?} again and again", decoder.name);
        }
        // What is deep, and what is too long to be read on.
        for word in decoder.words {
            for longest in [decoder.longest, 4 * decoder.longest] {
                let input = word.repeat(longest / word.len());
                times(decoder, input.as_bytes()).unwrap();
            }
        }
    }
}
