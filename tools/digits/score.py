"""Word error rate of an exported model on folders of test clips, through onnx-asr on the CPU.

python score.py --model DIR TESTSET [TESTSET ...]
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import onnx_asr
import soundfile


@dataclass
class Score:
    """Errors against reference words, and the clips that had any."""

    clips: int = 0
    wrong_clips: int = 0
    words: int = 0
    errors: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, reference: str, hypothesis: str) -> None:
        """Count one clip."""
        errors = word_errors(reference.split(), hypothesis.split())
        self.clips += 1
        self.words += len(reference.split())
        self.errors += errors
        if errors:
            self.wrong_clips += 1
            self.examples.append(f"{reference!r} -> {hypothesis!r}")

    def __str__(self) -> str:
        """One row: clips, clips with errors, reference words, errors, rate in percent."""
        rate = f"{100 * self.errors / self.words:.2f} %" if self.words else "-"
        return f"{self.clips:5d} {self.wrong_clips:5d} {self.words:6d} {self.errors:6d} {rate:>8}"


def word_errors(reference: list[str], hypothesis: list[str]) -> int:
    """Least number of word substitutions, deletions and insertions (Levenshtein distance)."""
    row = list(range(len(hypothesis) + 1))
    for index, word in enumerate(reference):
        previous, row = row, [index + 1]
        for column, guess in enumerate(hypothesis):
            substituted = previous[column] + (word != guess)
            row.append(min(substituted, previous[column + 1] + 1, row[column] + 1))
    return row[-1]


def read_references(folder: Path) -> list[tuple[Path, str, str]]:
    """Rows of a test set: file, text, voice (empty where the set names none)."""
    with (folder / "references.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [(folder / row["file"], row["text"], row.get("voice", "")) for row in rows]


def score_set(model: object, folder: Path, batch_size: int) -> dict[str, Score]:
    """Recognise every clip of a set; scores by family or speaker of the voice, and `all`."""
    scores: dict[str, Score] = defaultdict(Score)
    rows = read_references(folder)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        audio = [soundfile.read(path, dtype="float32")[0] for path, _, _ in batch]
        texts = model.recognize(audio, sample_rate=16_000)
        for (_, reference, voice), hypothesis in zip(batch, texts, strict=True):
            family, _, name = voice.partition("/")
            scores["all"].add(reference, hypothesis)
            if voice:
                scores[name if family == "fsdd" else family].add(reference, hypothesis)
    return scores


def main() -> None:
    """Print one row for each set and group of voices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="folder of the exported model")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="how many wrong clips to print")
    parser.add_argument("sets", type=Path, nargs="+", help="folders with references.tsv")
    arguments = parser.parse_args()
    model = onnx_asr.load_model(
        "nemo-conformer-tdt", arguments.model, providers=["CPUExecutionProvider"]
    )
    print(f"{'set':<20} {'voices':<10} clips wrong  words errors      WER")
    for folder in arguments.sets:
        scores = score_set(model, folder, arguments.batch_size)
        for group in ("all", *sorted(scores.keys() - {"all"})):
            print(f"{folder.name:<20} {group:<10} {scores[group]}", flush=True)
        for example in scores["all"].examples[: arguments.show]:
            print("   ", example)


if __name__ == "__main__":
    main()
