use super::*;

fn refused(bytes: &[u8]) -> String {
    check(bytes).expect_err("must be refused")
}

#[test]
fn pickles_written_by_python_pass() {
    // pickle.dumps({"a": [1, 2.5, (True, None)], "b": "text"}, protocol=2)
    let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00\x88N\x86q\x03eX\x01\x00\x00\x00bq\x04X\x04\x00\x00\x00textq\x05u.";
    check(bytes).unwrap();
    for end in 0..bytes.len() - 1 {
        check(&bytes[..end]).unwrap_err();
    }
}

#[test]
fn a_length_beyond_the_end_is_refused() {
    assert!(refused(b"\x80\x02X\xff\xff\xff\xffab.").contains("too short"));
    assert!(refused(b"\x8a\xff.").contains("255 bytes"));
}

/// Each tuple contains the one before twice: after forty of them there are 10¹² objects.
#[test]
fn a_memo_that_doubles_is_refused() {
    let mut bytes = b"]q\x00".to_vec();
    for key in 0..40_u8 {
        bytes.extend([b'h', key, b'h', key, 0x86, b'q', key + 1]);
    }
    bytes.push(b'.');
    assert!(refused(&bytes).contains("expands"));
}

#[test]
fn depth_is_bounded() {
    let mut bytes = vec![b'N'];
    bytes.extend([0x85].repeat(300));
    bytes.push(b'.');
    assert!(refused(&bytes).contains("deep"));
}
