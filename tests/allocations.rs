//! Number of allocations of a pass of the network after its buffers have grown. Profiles of time do not show it, and
//! it tends to grow. A separate binary, because it counts in the global allocator, and a single test, so that nothing
//! else allocates at the same time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use tutti::decode::{Encoded, InferenceModel, LengthBeam, Row, Steps, Translator};
use tutti::model::{Backend, Dtype, LengthPrediction};

/// Largest number of allocations of a pass, for any number of sentences.
const FOR_A_PASS: u64 = 30;
/// Additional allocations for each sentence: its keys, the box that hides their type, and its length scores.
const FOR_AN_ENCODED_SENTENCE: u64 = 6;
/// Additional allocations for each row of a decoder pass: its predictions, and its share of a group's scratch memory.
const FOR_A_DECODED_ROW: u64 = 8;

static COUNT: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with a count of allocations and reallocations.
struct Counting;

fn count() {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: all calls go to the system allocator; counting does not allocate.
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

/// Allocations of the fifth call of its kind.
fn steady<T>(mut call: impl FnMut() -> T) -> u64 {
    (0..4).for_each(|_| drop(call()));
    let before = COUNT.load(Ordering::Relaxed);
    let answer = call();
    let allocations = COUNT.load(Ordering::Relaxed) - before;
    drop(answer);
    allocations
}

/// Twelve words, the shape of the README's tables, 8-bit products, one thread.
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
    let beam = LengthBeam::new(&lengths, 1, Steps::ONE, &network.rules()).unwrap();
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
