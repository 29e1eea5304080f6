"""Files of one's own as data sets: CSV, .npy, .npz and IDX, and what is said of those that are none."""

import gzip
import re
import sys

import numpy as np
import pytest

from microgradx import data
from microgradx.errors import DataError


def same(a, b):
    return all(
        np.array_equal(p, q) for one, two in zip(a, b, strict=True) for p, q in zip(one, two, strict=True)
    )


def csv_file(tmp_path, text, **encoding):
    path = tmp_path / "own.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


FLOWERS = "width,kind,height\n" + "".join(f"{n},{'rose' if n % 2 else 'lily'},{n / 2}\n\n" for n in range(10))


def test_csv_with_names(tmp_path):
    split = data.load(csv_file(tmp_path, "\ufeff" + FLOWERS), label="kind")
    assert split.classes == ("lily", "rose") and split.columns == ("width", "height")
    (x, y), (x_test, y_test) = split
    assert len(x) == 8 and len(x_test) == 2 and sorted(y_test) == [0, 1]
    assert np.array_equal(x[:, 0], 2 * x[:, 1]) and np.array_equal(x[:, 0] % 2, y)
    assert same(split, data.load(csv_file(tmp_path, FLOWERS), label=1))
    assert same(split, data.load(csv_file(tmp_path, FLOWERS.replace(",", ";")), label=-2, delimiter=";"))


def test_csv_without_names_and_with_numbers_for_classes(tmp_path):
    rows = "".join(f"{n}.5,{n % 3 * 5 + 2}\n" for n in range(30))
    split = data.load(csv_file(tmp_path, rows))
    assert split.classes == ("2", "7", "12") and split.columns == ()
    assert len(split.train[0]) == 24
    assert np.array_equal(split.train[1], (split.train[0][:, 0] - 0.5) % 3)


def test_csv_for_a_regression(tmp_path):
    rows = "a,b\n" + "".join(f"{n},{n * n / 10}\n" for n in range(20))
    (x, y), _ = split = data.load(csv_file(tmp_path, rows), label="b", regression=True)
    assert y.dtype == np.float32 and y.shape == (16, 1) and split.classes == ()
    assert np.allclose(y, x * x / 10)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, "the file is empty"),
        ("a,b\n", {}, "there are no rows of data"),
        ("a,b\n1,2\n3\n", {}, "line 3 has 1 cell, the first has 2"),
        ("a,b\n1,2\n,2\n", {}, r"line 3, column 1 \(a\): expected a number, got an empty cell"),
        ("a,b\n1,2\n\n3,\n", {}, r"line 4, column 2 \(b\): expected a class, got an empty cell"),
        ("1,2\n1x,2\n", {}, "line 2, column 1: expected a number, got '1x'"),
        ("rose,1\nlily,1x\n", {"label": 0}, "line 2, column 2: expected a number, got '1x'"),
        ("1,2\nnan,2\n", {}, "line 2, column 1: expected a number, got 'nan'"),
        (
            "1,2\n1e39,2\n",
            {},
            "line 2, column 1: expected a number, got '1e39'. The largest float32 is 3.4e38: divide",
        ),
        ("1,2\n1,x\n", {"regression": True}, "line 2, column 2: expected a number, got 'x'"),
        ("1,2.5\n" * 9, {}, "labels must be integers or names, got 2.5. For a regression: regression=True"),
        ("a;b\n1,5;2\n", {}, r"expected a number, got '1,5'. Decimals are written with a point"),
        ("a,b\n1,2\n", {"label": "c"}, "no column 'c' for the labels; the file has a, b"),
        ("1,2\n1,2\n", {"label": 2}, "no column 2 for the labels; the file has 2 columns without names"),
        ("a,b\n1,2\n", {"label": "b", "header": False}, "no column 'b'"),
        ("1,2\n", {}, "test=0.2 of 1 rows leaves 1 to train on and 0 to test on"),
        ("1,2\n1_000,2\n", {}, "line 2, column 1: expected a number, got '1_000'"),
        ("1,2\n0x10,2\n", {}, "expected a number, got '0x10'"),
        ("1,2\n\uff11\uff12,2\n", {}, "expected a number, got '\uff11\uff12'"),
        ("1,2\n1,1_0\n", {"regression": True}, "expected a number, got '1_0'"),
        ("1,2\n" + "y" * 9999 + ",2\n", {}, "expected a number, got 'yyyyyyyyyyyy...yyyyyyyyyyyyy'"),
        ("a,b,a\n1,2,3\n", {"label": "a"}, "2 columns are named 'a': give the index of one"),
        (",".join(f"c{k}" for k in range(99)), {"label": "c"}, "file has c0, c1, .*, c11 and 87 more."),
        ("1;2\n", {"delimiter": ","}, "line 1 is one column, '1;2'; a label and features are needed. Name"),
        (b"1,2\n\xff,3\n", {}, "line 1 or later is not UTF-8.* Save it as such"),
        (b"1,2\n3,x\0\n", {}, "line 2 has a NUL byte in it"),
        ('1,2\n\n"3,4\n5,6\n', {}, "row that begins in line 3 has a quote .* that is never closed"),
        ("1,2\n3," + "x" * 140_000, {}, "the row that begins in line 2 has a cell of more than 131,072"),
        ('1,2\n"3"x,4\n', {}, "the row that begins in line 2 is not CSV: ',' expected after '\"'"),
    ],
)
def test_a_csv_file_that_is_no_set(tmp_path, text, options, message):
    with pytest.raises(DataError, match=r"own\.csv: " + "(.*)" + message):
        data.load(csv_file(tmp_path, text), **options)


LABELS = [
    (["01", "1"], ("01", "1")),
    (["007", "7", "12"], ("007", "12", "7")),
    ([str(2**53), str(2**53 + 1)], (str(2**53), str(2**53 + 1))),
    (["10", "9"], ("9", "10")),
    (["1", "1.0", "2"], ("1", "2")),
    (["0", "-1"], ("-1", "0")),
    (["a", "1"], ("1", "a")),
]


@pytest.mark.parametrize("labels, classes", LABELS)
def test_classes_are_told_apart_as_they_are_written(tmp_path, labels, classes):
    rows = "".join(f"{n}.5,{labels[n % len(labels)]}\n" for n in range(12))
    assert data.load(csv_file(tmp_path, rows)).classes == classes


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_the_index_that_pandas_writes_is_no_feature(tmp_path, name):
    rows = "".join(f"{(7 * n) % 20},{n % 3},{n % 2}\n" for n in range(20))
    assert data.load(csv_file(tmp_path, f"{name},a,kind\n" + rows)).columns == ("a",)
    assert data.load(csv_file(tmp_path, "b,a,kind\n" + rows)).columns == ("b", "a")
    uneven = rows.replace("\n7,", "\n0,")
    assert len(data.load(csv_file(tmp_path, f"{name},a,kind\n" + uneven)).columns) == 2


@pytest.mark.parametrize(
    "suffix, mark", [("csv", ";"), ("csv", "|"), ("tsv", "\t"), ("csv.gz", ","), ("TSV.GZ", "\t")]
)
def test_the_delimiter_is_seen_and_compression_undone(tmp_path, suffix, mark):
    expected = data.load(csv_file(tmp_path, FLOWERS), label="kind")
    raw = FLOWERS.replace(",", mark).encode()
    path = tmp_path / f"own.{suffix}"
    path.write_bytes(gzip.compress(raw) if suffix.lower().endswith("gz") else raw)
    assert same(expected, data.load(path, label="kind"))


def test_a_damaged_stream_says_so(tmp_path):
    path = tmp_path / "own.csv.gz"
    path.write_bytes(gzip.compress(FLOWERS.encode())[:-4])
    with pytest.raises(DataError, match=r"own\.csv\.gz: the gzip stream is damaged"):
        data.load(path, label="kind")


def test_a_table_in_an_npy_file(tmp_path):
    table = np.column_stack([np.arange(20) % 2, np.arange(20), np.arange(20) / 2])
    np.save(tmp_path / "own.npy", table)
    split = data.load(tmp_path / "own.npy", label=0)
    assert split.classes == ("0", "1") and split.train[0].shape == (16, 2)
    np.save(tmp_path / "own.npy", table[0])
    with pytest.raises(DataError, match=r"an \.npy file holds \(rows, features and a label\), got \(3,\)"):
        data.load(tmp_path / "own.npy")


def test_a_folder_of_idx_files(tmp_path):
    x, y = np.zeros((6, 4, 4), np.uint8), np.arange(6, dtype=np.uint8) % 3
    for part, n in (("train", 6), ("t10k", 3)):
        data.write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", x[:n])
        data.write_idx(tmp_path / f"{part}-labels-idx1-ubyte", y[:n])
    split = data.load(tmp_path)
    assert split.image_shape == (4, 4) and split.classes == ("0", "1", "2") and len(split.test[0]) == 3
    with pytest.raises(DataError, match="of IDX files, give the folder"):
        data.load(tmp_path / "t10k-labels-idx1-ubyte")
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte is missing"):
        data.load(tmp_path)


def test_npz_of_two_and_of_four_arrays(tmp_path):
    path = tmp_path / "own.npz"
    pixels = np.arange(10 * 2 * 3, dtype=np.uint8).reshape(10, 2, 3)
    np.savez(path, x=pixels, y=np.arange(10) % 2)
    (x, _), _ = split = data.load(path)
    assert (
        x.shape == (8, 6)
        and x.max() <= 59 / 255
        and split.image_shape == (2, 3)
        and split.classes == ("0", "1")
    )
    names = np.array(["b", "a"])
    np.savez_compressed(path, x_train=pixels[:2] / 2, y_train=names, x_test=pixels[2:3] / 2, y_test=names[:1])
    (x, y), (x_test, y_test) = split = data.load(path)
    assert np.array_equal(x, pixels[:2].reshape(2, 6) / 2) and x.dtype == np.float32
    assert y.tolist() == [1, 0] and y_test.tolist() == [1] and split.classes == ("a", "b")
    np.savez(path, x=np.zeros((5, 3)), y=np.zeros((5, 2)))
    assert data.load(path, regression=True).train[1].shape == (4, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "an array cannot be read"),
        (
            {"x": [1], "labels": [2]},
            "the arrays x and y, or x_train, .* are needed; y is missing among x, labels",
        ),
        ({"x_train": [1], "y_train": [2]}, "x_test, y_test is missing among x_train, y_train"),
        ({"x": np.array([{}, {}]), "y": [1, 2]}, "an array cannot be read: Object arrays cannot be loaded"),
        ({"x": np.array(["a", "b"]), "y": [1, 2]}, "x must hold numbers, got <U1"),
        (
            {"x": [[1.0], [np.inf]], "y": [1, 2]},
            r"x must hold finite float32 numbers, got inf at index \(1, 0\)",
        ),
        ({"x": [[1.0], [2.0]], "y": [1, 2, 3]}, r"one entry per sample, got shapes \(2, 1\) and \(3,\)"),
        ({"x": 1.0, "y": 1}, r"one entry per sample, got shapes \(\) and \(\)"),
        ({"x": np.zeros((0, 3)), "y": []}, r"x must not be empty, got shape \(0, 3\)"),
        ({"x": np.zeros((4, 1)), "y": np.zeros((4, 2))}, r"one label per sample, got shape \(4, 2\)"),
        ({"x": np.zeros((4, 1)), "y": [0, 1, np.nan, 1]}, "labels must be integers or names, got nan"),
    ],
)
def test_an_npz_file_that_is_no_set(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(DataError, match=r"own\.npz: .*" + message):
        data.load(tmp_path / "own.npz")


@pytest.mark.parametrize(
    ("x_test", "y_test", "message"),
    [
        (np.zeros((2, 4)), [0, 1], "both parts need the same features, got 3 to train on and 4 to test on"),
        (np.zeros((2, 3)), ["a", "b"], "y_train and y_test must be of one kind, got int64 .* and <U1"),
        (
            np.zeros((2, 3)),
            [[0], [1]],
            r"must be of one kind, got int64 of shape \(2,\) and int64 of shape \(2, 1\)",
        ),
    ],
)
def test_parts_of_an_npz_file_that_do_not_fit(tmp_path, x_test, y_test, message):
    np.savez(tmp_path / "own.npz", x_train=np.zeros((2, 3)), y_train=[0, 1], x_test=x_test, y_test=y_test)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / "own.npz")


def test_a_damaged_npz_file(tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, x=np.random.default_rng(0).random((50, 50)), y=np.arange(50))
    whole = path.read_bytes()
    for broken in (b"", whole[:3000], whole[:600] + b"?" + whole[601:], whole[:30] + b"?" + whole[31:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"own\.npz: (this is not an \.npz file|an array cannot be read)"):
            data.load(path)


def test_a_file_of_another_kind_or_none(tmp_path):
    with pytest.raises(DataError, match=r"own\.txt: data\.load reads \.csv, \.tsv"):
        data.load(tmp_path / "own.txt")
    for name in ("own.csv", "own.npz"):
        with pytest.raises(DataError, match=re.escape(f"{name}: No such file or directory")):
            data.load(tmp_path / name)


# Folders of pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 4, 5), np.uint8)


def save(path, pixels, **options):
    image = pytest.importorskip("PIL.Image", reason="Pillow is in the extra 'plot'")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.fromarray(pixels).save(path, **options)


def animals(folder, pixels=PIXELS, ending="png"):
    """Twelve pictures: cats and dogs in turn."""
    for n, picture in enumerate(pixels):
        save(folder / ("cats", "dogs")[n % 2] / f"{n:02}.{ending}", picture)
    return folder


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_a_folder_of_pictures(tmp_path, colour):
    pixels = np.stack([PIXELS, PIXELS[::-1], PIXELS // 2], -1) if colour else PIXELS
    (animals(tmp_path, pixels) / "cats" / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden").mkdir()
    split = data.load(tmp_path, test=0.5)
    (x, y), (x_test, y_test) = split
    assert split.classes == ("cats", "dogs") and split.image_shape == (None if colour else (4, 5))
    assert x.dtype == np.float32 and sorted(y) == sorted(y_test) == [0, 0, 0, 1, 1, 1]
    names = {pixels[n].reshape(-1).tobytes(): n % 2 for n in range(12)}
    for row, label in zip([*x, *x_test], [*y, *y_test], strict=True):
        assert names[np.round(row * 255).astype(np.uint8).tobytes()] == label


def test_a_folder_of_pictures_in_two_parts(tmp_path):
    animals(tmp_path / "train")
    animals(tmp_path / "val", PIXELS[:4])
    (x, y), (x_test, y_test) = data.load(tmp_path)
    assert len(x) == 12 and np.array_equal(x_test * 255, PIXELS[[0, 2, 1, 3]].reshape(4, -1))
    assert list(y_test) == [0, 0, 1, 1]


def test_what_is_transparent_is_white(tmp_path):
    clear = np.zeros((4, 5, 4), np.uint8)
    animals(tmp_path, [clear] * 10)
    assert data.load(tmp_path).train[0].min() == 1


def broken(folder):
    animals(folder)
    (folder / "dogs" / "05.png").write_bytes(b"no picture")


def without_pictures(folder):
    animals(folder)
    (folder / "fish").mkdir()


UNFIT = {  # what is wrong with a folder, and what is said
    "empty": (lambda folder: folder.mkdir(), "own has no subfolder: give each of two or more classes"),
    "no subfolders": (lambda folder: save(folder / "a.png", PIXELS[0]), "no subfolder and 1 pictures beside"),
    "one class": (lambda folder: save(folder / "cats" / "a.png", PIXELS[0]), "has the subfolder cats: give"),
    "a class without pictures": (without_pictures, "the subfolder fish has no pictures (.png, .jpg"),
    "no picture": (broken, "dogs/05.png is not a picture that can be read"),
    "other sizes": (
        lambda folder: animals(folder, [*PIXELS, PIXELS[0].T]),
        "cats/12.png is 4x5 pixels of grey, cats/00.png 5x4 pixels of grey: make all pictures of one size",
    ),
    "other kinds": (
        lambda folder: animals(folder, [*PIXELS, np.stack([PIXELS[0]] * 3, -1)]),
        "cats/12.png is 5x4 pixels in colour, cats/00.png 5x4 pixels of grey",
    ),
    "16 bits": (lambda folder: animals(folder, PIXELS.astype(np.uint16)), "save it with 8 bits of grey"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_wrong_with_a_folder_of_pictures(tmp_path, name):
    make, message = UNFIT[name]
    make(tmp_path / "own")
    with pytest.raises(DataError, match=re.escape(message)):
        data.load(tmp_path / "own")


def test_pictures_without_pillow_say_what_is_read(tmp_path, monkeypatch):
    animals(tmp_path)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"pip install pillow; without it \.csv, \.tsv, \.npy and \.npz"):
        data.load(tmp_path)
