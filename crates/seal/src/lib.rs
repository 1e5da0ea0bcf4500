//! Bytes in, bytes out: node keys, opening a request, sealing its response, hashes, signature, receipt.
