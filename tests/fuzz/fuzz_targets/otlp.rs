//! Any body of an OTLP request becomes spans or is refused.

#![no_main]

use clnrm_backends::otlp_spans;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    for content_type in ["application/json", "application/x-protobuf"] {
        let _ = otlp_spans(body, content_type);
    }
});
