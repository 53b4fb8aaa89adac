//! Reads the body of a request: limits its size, decompresses it and determines its kind. Clients send JSON with any
//! content type, so the content decides if it does not match its type.

use std::io::Read;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::error::ApiError;

pub struct Body {
    pub bytes: Bytes,
    pub kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Kind {
    Empty,
    Json,
    /// `application/x-www-form-urlencoded`
    Form,
    /// `multipart/form-data`, with its boundary.
    Multipart(String),
}

impl Body {
    /// # Errors
    /// 400 if the body cannot be read or decompressed, 413 for more than `limit` bytes (also after decompression),
    /// 415 if it is neither JSON nor a form.
    pub async fn read(request: Request, limit: usize) -> Result<Self, ApiError> {
        let headers = request.headers().clone();
        let bytes = Bytes::from_request(request, &()).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                ApiError::BodyLimit { limit }
            } else {
                ApiError::invalid("the body could not be read")
            }
        })?;
        let bytes = decompress(bytes, &headers, limit)?;
        let kind = kind(&headers, &bytes)?;
        Ok(Self { bytes, kind })
    }

    /// The content without the byte order mark that .NET clients send.
    pub fn json(&self) -> &[u8] {
        without_mark(&self.bytes)
    }
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes)
}

fn decompress(bytes: Bytes, headers: &HeaderMap, limit: usize) -> Result<Bytes, ApiError> {
    let Some(encoding) = headers.get(header::CONTENT_ENCODING) else { return Ok(bytes) };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(bytes),
        _ if bytes.is_empty() => Ok(bytes),
        "gzip" | "x-gzip" => bounded(GzDecoder::new(&*bytes), limit),
        // `deflate` means zlib (RFC 9110); some clients send a raw deflate stream.
        "deflate" if is_zlib(&bytes) => bounded(ZlibDecoder::new(&*bytes), limit),
        "deflate" => bounded(DeflateDecoder::new(&*bytes), limit),
        _ => Err(ApiError::ContentEncoding(encoding)),
    }
}

/// Whether this is a zlib header (RFC 1950): the method is 8, and the two bytes are a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..] if method & 0x0F == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0)
}

fn bounded(decoder: impl Read, limit: usize) -> Result<Bytes, ApiError> {
    let mut content = Vec::new();
    decoder
        .take(limit as u64 + 1)
        .read_to_end(&mut content)
        .map_err(|error| ApiError::invalid(format!("the body cannot be decompressed: {error}")))?;
    if content.len() > limit { Err(ApiError::BodyLimit { limit }) } else { Ok(content.into()) }
}

fn kind(headers: &HeaderMap, bytes: &[u8]) -> Result<Kind, ApiError> {
    let label = headers.get(header::CONTENT_TYPE);
    let label = label.map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned());
    let media_type = label.as_deref().and_then(|label| label.split(';').next());
    let media_type = media_type.unwrap_or_default().trim().to_ascii_lowercase();
    let looks_like_json =
        || matches!(without_mark(bytes).trim_ascii_start().first(), Some(b'{' | b'[' | b'"'));
    match media_type.as_str() {
        _ if bytes.is_empty() => Ok(Kind::Empty),
        "multipart/form-data" => match multer::parse_boundary(label.unwrap_or_default()) {
            Ok(boundary) => Ok(Kind::Multipart(boundary)),
            Err(_) => Err(ApiError::invalid("the content type multipart/form-data has no boundary")),
        },
        // `curl -d '{…}'` sends JSON with the type of a form.
        "application/x-www-form-urlencoded" if !looks_like_json() => Ok(Kind::Form),
        json if json == "application/json" || json.ends_with("+json") => Ok(Kind::Json),
        _ if looks_like_json() => Ok(Kind::Json),
        other => Err(ApiError::MediaType(other.to_owned())),
    }
}
