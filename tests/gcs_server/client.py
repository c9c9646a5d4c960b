"""What Google's own client does with a bucket; run against the test server by gcs_server_fidelity.rs."""

import base64
import hashlib

import google_crc32c
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

client = storage.Client(project="test", credentials=AnonymousCredentials())
bucket = client.bucket("shop")
retry = DEFAULT_RETRY.with_timeout(20).with_delay(initial=0.05, maximum=0.2)


def raises(kind, deed):
    try:
        deed()
    except kind:
        return
    raise AssertionError(f"expected {kind}")


# A listing in pages, with prefix and delimiter.
names = ["a/1", "a/2", "a/b/3", "a/b/4", "a/b c/5", "a/ü+%2F&?#/6", "b/7"]
for name in names:
    bucket.blob(name).upload_from_string(name.encode(), if_generation_match=0, retry=retry)
assert [blob.name for blob in client.list_blobs(bucket, page_size=2, retry=retry)] == sorted(names, key=str.encode)
assert [blob.name for blob in client.list_blobs(bucket, prefix="a/b/", retry=retry)] == ["a/b/3", "a/b/4"]
under = client.list_blobs(bucket, prefix="a/", delimiter="/", retry=retry)
assert [blob.name for blob in under] == ["a/1", "a/2"]
assert under.prefixes == {"a/b/", "a/b c/", "a/ü+%2F&?#/"}, under.prefixes
for name in names:
    assert bucket.blob(name).download_as_bytes(retry=retry) == name.encode()

# A single upload with digests, metadata read back.
blob = bucket.blob("single")
blob.metadata = {"k": "v"}
blob.upload_from_string(b"hello", content_type="text/plain", checksum="md5", if_generation_match=0, retry=retry)
blob = bucket.get_blob("single")
assert (blob.size, blob.content_type, blob.metadata) == (5, "text/plain", {"k": "v"})
assert blob.md5_hash == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
assert blob.crc32c == base64.b64encode(google_crc32c.Checksum(b"hello").digest()).decode()
raises(exceptions.PreconditionFailed, lambda: bucket.blob("single").upload_from_string(b"other", if_generation_match=0))
assert blob.download_as_bytes() == b"hello"

# Metadata changed.
before = blob.metageneration
blob.metadata = {"k": "w", "l": "x"}
blob.patch(if_metageneration_match=before)
assert bucket.get_blob("single").metadata == {"k": "w", "l": "x"}
raises(exceptions.PreconditionFailed, lambda: bucket.get_blob("single").patch(if_metageneration_match=before))

# A resumable upload in pieces; one of them is half kept, by plan.
data = bytes(range(256)) * 5000
big = bucket.blob("big", chunk_size=256 * 1024)
with big.open("wb", if_generation_match=0, retry=retry) as out:
    out.write(data)
big = bucket.get_blob("big")
assert (big.size, big.download_as_bytes(retry=retry, checksum="crc32c") == data) == (len(data), True)

# Ranges.
assert big.download_as_bytes(start=10, end=19) == data[10:20]
assert big.download_as_bytes(start=len(data) - 3) == data[-3:]
assert big.download_as_bytes(start=len(data) - 3, end=len(data) + 100) == data[-3:]
raises(exceptions.RequestRangeNotSatisfiable, lambda: big.download_as_bytes(start=len(data), end=len(data) + 5))
assert bucket.blob("big", generation=big.generation).download_as_bytes() == data
raises(exceptions.NotFound, lambda: bucket.blob("big", generation=1).download_as_bytes())
raises(exceptions.PreconditionFailed, lambda: big.download_as_bytes(if_generation_match=1))

# A body compressed by the client, read as stored and as meant.
import gzip

packed = gzip.compress(b"words " * 100)
zipped = bucket.blob("zipped")
zipped.content_encoding = "gzip"
zipped.upload_from_string(packed)
assert zipped.download_as_bytes(raw_download=True) == packed
assert zipped.download_as_bytes() == b"words " * 100

# Joined objects have a CRC32C and no MD5.
parts = []
for number in range(3):
    part = bucket.blob(f"part-{number}")
    part.upload_from_string(b"%d%d%d" % (number, number, number))
    parts.append(part)
whole = bucket.blob("whole")
whole.compose(parts, if_generation_match=0)
whole = bucket.get_blob("whole")
assert (whole.size, whole.md5_hash, whole.component_count) == (9, None, 3)
assert whole.download_as_bytes() == b"000111222"
raises(exceptions.PreconditionFailed, lambda: bucket.blob("whole").compose(parts, if_generation_match=0))
raises(exceptions.BadRequest, lambda: bucket.blob("more").compose(parts * 11))
raises(exceptions.NotFound, lambda: bucket.blob("more").compose([bucket.blob("absent")]))

# Deleting.
raises(exceptions.PreconditionFailed, lambda: big.delete(if_generation_match=1))
big.delete(if_generation_match=big.generation)
assert bucket.get_blob("big") is None
raises(exceptions.NotFound, lambda: big.delete())
raises(exceptions.NotFound, lambda: list(client.list_blobs("no-such-bucket")))
print("all as expected")
