//! How often a pass of the network asks for memory, once its buffers have grown: a number that a
//! profile of times does not show and that only ever creeps up. A binary of its own, because it counts
//! through the global allocator.
//!
//! One test, so that nobody else allocates meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use tutti::decode::{Beam, Encoded, InferenceModel, Row, Steps, Translator};
use tutti::model::{Backend, Dtype, LengthPrediction};

/// What any pass may allocate, however many sentences are in it.
const FOR_A_PASS: u64 = 30;
/// What each sentence may add: its keys, its length scores, and where they grow from.
const FOR_AN_ENCODED_SENTENCE: u64 = 5;
/// What each row of a decoder pass may add: its answer, and its part of what a group of rows needs for
/// its best tokens.
const FOR_A_DECODED_ROW: u64 = 8;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// The system's allocator; counts what is asked for, new memory and more of it alike.
struct Counting;

fn count() {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: everything is the system allocator's own answer; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of one call, the fifth of its kind.
fn steady<T>(mut call: impl FnMut() -> T) -> u64 {
    (0..4).for_each(|_| drop(call()));
    let before = COUNT.load(Ordering::Relaxed);
    let answer = call();
    let allocations = COUNT.load(Ordering::Relaxed) - before;
    drop(answer);
    allocations
}

/// Twelve words, the shape of the README's tables, products in eight bits, one thread.
fn measure(batch: usize) -> (u64, u64) {
    let shape = "enc=3,dec=3,d=256,ffn=1024,heads=4,vocab=8000".parse().unwrap();
    let network = InferenceModel::random(&shape, 1, &Backend::cpu().with_dtype(Dtype::Q8)).unwrap();
    let words = |seed: usize| (0..12).map(move |place| 5 + ((seed * 31 + place * 7) % 7900) as u32);
    let sources: Vec<Vec<u32>> =
        (0..batch).map(|seed| std::iter::once(1).chain(words(seed)).chain([2]).collect()).collect();
    let sources: Vec<&[u32]> = sources.iter().map(Vec::as_slice).collect();
    let encode = steady(|| network.encode(&sources).unwrap());
    let mut lengths = vec![f32::NEG_INFINITY; 13];
    lengths[12] = 0.0;
    let lengths = LengthPrediction::Lengths(lengths);
    let beam = Beam::new(&lengths, 1, Steps::ONE, &network.rules()).unwrap();
    let encoded: Vec<Encoded<_>> = network.encode(&sources).unwrap();
    let rows: Vec<Row<_>> = encoded.iter().flat_map(|sentence| beam.rows(&sentence.memory)).collect();
    let decode = steady(|| network.decode(&rows).unwrap());
    (encode, decode)
}

#[test]
fn a_steady_pass_allocates_little_and_hardly_more_for_each_further_row() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().unwrap();
    for batch in [1, 8, 64] {
        let (encode, decode) = measure(batch as usize);
        println!("batch {batch}: {encode} to encode, {decode} to decode");
        let (most_encode, most_decode) =
            (FOR_A_PASS + batch * FOR_AN_ENCODED_SENTENCE, FOR_A_PASS + batch * FOR_A_DECODED_ROW);
        assert!(encode <= most_encode, "{encode} allocations to encode {batch}, at most {most_encode}");
        assert!(decode <= most_decode, "{decode} allocations to decode {batch}, at most {most_decode}");
    }
}
