"""What Google's own client does with a bucket; run against the test server by cloud/server_fidelity.rs."""

import base64
import hashlib

import google_crc32c
import requests
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
# Calls by hand, where the client hides what the service says. Errors are told in JSON, those of reads in plain words.
http = requests.Session()
base = client._connection.API_BASE_URL
uploads = f"{base}/upload/storage/v1/b/shop/o"
objects = f"{base}/storage/v1/b/shop/o"


def told(answer, status, reason):
    assert answer.status_code == status, (answer.status_code, answer.text)
    error = answer.json()["error"]
    assert (error["code"], error["errors"][0]["reason"]) == (status, reason), error
    assert error["message"] == error["errors"][0]["message"] != "", error


def spelled(body):
    return base64.b64encode(google_crc32c.Checksum(body).digest()).decode()


def session(name):
    begun = http.post(uploads, params={"uploadType": "resumable", "name": name, "ifGenerationMatch": 0}, json={})
    assert begun.status_code == 200
    return begun.headers["location"]


quarter = 256 * 1024
body = data[: quarter + 10]
# The last piece may say what the whole must be.
address = session("hashed")
answer = http.put(address, data=body[:quarter], headers={"content-range": f"bytes 0-{quarter - 1}/*"})
assert (answer.status_code, answer.headers["range"]) == (308, f"bytes=0-{quarter - 1}")
last = {"content-range": f"bytes {quarter}-{len(body) - 1}/{len(body)}"}
told(http.put(address, data=body[quarter:], headers={**last, "x-goog-hash": f"crc32c={spelled(b'other')}"}), 400, "invalid")
assert bucket.get_blob("hashed") is None
assert http.put(address, headers={"content-range": "bytes */*"}).status_code == 404, "a session that was refused is over"
address = session("hashed")
answer = http.put(address, data=body, headers={"content-range": f"bytes 0-{len(body) - 1}/{len(body)}", "x-goog-hash": f"crc32c={spelled(body)}"})
assert (answer.status_code, answer.json()["crc32c"]) == (200, spelled(body))
assert http.put(address, headers={"content-range": "bytes */*"}).json()["generation"] == answer.json()["generation"]

# Nothing kept, a piece that is no multiple, the end told afterwards, a session that is given up.
address = session("asked")
answer = http.put(address, headers={"content-range": "bytes */*"})
assert (answer.status_code, answer.headers.get("range")) == (308, None)
answer = http.put(address, data=body, headers={"content-range": f"bytes 0-{len(body) - 1}/*"})
assert (answer.status_code, answer.headers["range"]) == (308, f"bytes=0-{quarter - 1}")
answer = http.put(address, headers={"content-range": f"bytes */{quarter}"})
assert (answer.status_code, answer.json()["size"]) == (200, str(quarter))
address = session("given-up")
assert http.delete(address).status_code == 499
assert http.put(address, headers={"content-range": "bytes */*"}).status_code == 404

# The name is taken between the begin of a session and its end.
address = session("taken")
bucket.blob("taken").upload_from_string(b"first")
told(http.put(address, data=b"second", headers={"content-range": "bytes 0-5/6"}), 412, "conditionNotMet")
assert bucket.blob("taken").download_as_bytes() == b"first"


def single(name, parts):
    lines = "".join(f"--x\r\n{head}\r\n{content}\r\n" for head, content in parts) + "--x--"
    params = {"uploadType": "multipart", "name": name}
    return http.post(uploads, params=params, data=lines, headers={"content-type": "multipart/related; boundary=x"})


json_part, text_part = "content-type: application/json\r\n", "content-type: text/plain\r\n"
told(single("wrong", [(json_part, f'{{"crc32c": "{spelled(b"other")}"}}'), (text_part, "words")]), 400, "invalid")
told(single("wrong", [(json_part, "{}"), ("", "words")]), 400, "invalid")
told(single("wrong", [(json_part, "{}")]), 400, "invalid")
trailing = [(json_part, "{}"), (text_part, "words"), (json_part, f'{{"crc32c": "{spelled(b"other")}"}}')]
told(single("wrong", trailing), 400, "invalid")
assert bucket.get_blob("wrong") is None
assert single("right", [(json_part, f'{{"crc32c": "{spelled(b"words")}"}}'), (text_part, "words")]).json()["contentType"] == "text/plain"

told(http.get(f"{objects}/absent"), 404, "notFound")
told(http.delete(f"{objects}/right", params={"ifGenerationMatch": 1}), 412, "conditionNotMet")
told(http.get(f"{base}/storage/v1/b/no-such-bucket/o"), 404, "notFound")
absent = http.get(f"{objects}/absent", params={"alt": "media"})
assert (absent.status_code, absent.text) == (404, "No such object: shop/absent")

print("all as expected")
