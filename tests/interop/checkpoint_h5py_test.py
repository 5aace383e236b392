# labels: slow torch
"""Reads native checkpoints with stock h5py, as docs/checkpoint-format.md describes them.

    checkpoint_h5py_test.py                      # checkpoints of 1 and 3 ranks, every value
    checkpoint_h5py_test.py runs/x/step_000500   # that h5py and the manifest agree
"""
import json, subprocess, sys, tempfile
from pathlib import Path

from interop import PROGRAMS, skip_without

skip_without("h5py", "numpy", "xxhash")
import h5py
import numpy as np
import xxhash

BYTES = {"f32": 4, "bf16": 2, "f16": 2, "f64": 8, "i32": 4, "i64": 8, "u8": 1}
PLAIN = {"f32": "<f4", "f16": "<f2", "f64": "<f8", "i32": "<i4", "i64": "<i8", "u8": "|u1"}


def widen(raw, dtype):
    """Raw little-endian bytes as numbers; bf16 as the floats that it stands for."""
    if dtype == "bf16":
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(raw, PLAIN[dtype])


def same(a, b):
    return a.shape == b.shape and bool(np.all((a == b) | ((a != a) & (b != b))))


def check_manifest_seal(text):
    body, seal = text[: text.rindex('  "manifest_xxh3"')], json.loads(text)["manifest_xxh3"]
    assert xxhash.xxh3_64_hexdigest(body.encode()) == seal, "manifest checksum"


def check_checksums(raw, record, chunk_bytes):
    outside, at = xxhash.xxh3_64(), 0
    for piece in sorted(record["pieces"], key=lambda p: p["offset"]):
        count = int(np.prod([e - b for b, e in zip(piece["begin"], piece["end"])], dtype=np.int64))
        end = piece["offset"] + count * BYTES[piece["dtype"]]
        outside.update(raw[at : piece["offset"]])
        data, at = raw[piece["offset"] : end], end
        chunks = [data[i : i + chunk_bytes] for i in range(0, len(data), chunk_bytes)]
        assert "".join(xxhash.xxh3_64_hexdigest(c) for c in chunks) == piece["xxh3"], piece["name"]
    outside.update(raw[at:])
    assert outside.hexdigest() == record["structure_xxh3"], "structure checksum"


def read_checkpoint(folder):
    """{(kind, name): whole array}, put together from what h5py reads out of every rank's file."""
    text = (folder / "manifest.json").read_text()
    check_manifest_seal(text)
    manifest = json.loads(text)
    tensors, filled = {}, {}
    for record in manifest["files"]:
        raw = (folder / record["name"]).read_bytes()
        assert len(raw) == record["bytes"], "size"
        check_checksums(raw, record, manifest["chunk_bytes"])
        pieces = {(p["kind"], p["name"], tuple(p["begin"])): p for p in record["pieces"]}
        with h5py.File(folder / record["name"], "r") as file:
            assert file.attrs["format"] == b"weft-checkpoint" and file.attrs["version"] == 1
            assert file.attrs["step"] == manifest["step"]
            for kind in file:
                for dataset in file[kind].values():
                    name = dataset.attrs["name"].decode()
                    begin, end = dataset.attrs["box"]
                    piece = pieces.pop((kind, name, tuple(int(b) for b in begin)))
                    assert list(dataset.attrs["global_shape"]) == piece["shape"], name
                    assert list(end) == piece["end"], name
                    assert dataset.attrs["dtype"].decode() == piece["dtype"], name
                    assert dataset.id.get_offset() == piece["offset"], name
                    values = np.asarray(dataset[()])
                    at = piece["offset"]
                    data = raw[at : at + values.size * BYTES[piece["dtype"]]]
                    plain = widen(data, piece["dtype"])
                    values = values.astype(plain.dtype)
                    assert same(values.reshape(-1), plain), f"{name}: h5py reads other values"
                    whole = tensors.setdefault((kind, name), np.zeros(piece["shape"], plain.dtype))
                    counts = filled.setdefault((kind, name), np.zeros(piece["shape"], np.int8))
                    place = tuple(slice(b, e) for b, e in zip(begin, end))
                    whole[place], counts[place] = values, counts[place] + 1
        assert not pieces, f"not in the file: {list(pieces)}"
    for key, counts in filled.items():
        assert np.all(counts == 1), f"{key}: holes or overlaps"
    return tensors


def compare_with_the_bytes_written():
    with tempfile.TemporaryDirectory(prefix="weft-interop-") as out:
        subprocess.run([PROGRAMS / "write_checkpoints", out], check=True)
        expected = json.loads((Path(out) / "expected.json").read_text())
        for ranks in (1, 3):
            tensors = read_checkpoint(Path(out) / f"ranks_{ranks}" / "step_000007")
            assert len(tensors) == len(expected), "tensors"
            for tensor in expected:
                raw = (Path(out) / tensor["file"]).read_bytes()
                found = tensors[(tensor["kind"], tensor["name"])]
                assert list(found.shape) == tensor["shape"], tensor
                assert same(found.reshape(-1), widen(raw, tensor["dtype"])), tensor
            print(f"{ranks} ranks: {len(expected)} tensors, {len({t['dtype'] for t in expected})} dtypes: equal")


print(f"h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}, numpy {np.__version__}")
if len(sys.argv) > 1:
    for (kind, name), values in read_checkpoint(Path(sys.argv[1])).items():
        print(f"{kind:8} {name} {list(values.shape)} {values.dtype}")
else:
    compare_with_the_bytes_written()
