"""Train the digits model: a plain PyTorch loop over NeMo's modules, on the CPU.

python train.py --bank DIR/train.npz --noise DIR --out DIR --minutes 20
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import torch
from bank import DIGITS, SAMPLE_RATE, Bank, random_digits
from examples import Composer, Example
from mixing import load_noise
from model import WIDTH, build_model, train_tokenizer
from tdt_loss import tdt_loss
from torch.utils.data import DataLoader, IterableDataset

# A continued run needs the same tokenizer, so this seed is never an option.
TOKENIZER_SEED = 20
# Audio per step, padding included: long examples come in small batches.
BATCH_AUDIO_S = 64.0
PADDING_STEP = SAMPLE_RATE // 2
POOL_SIZE = 256
# Pools of short clean strings only, and pools over which they give way to the full mixture. From
# the full mixture alone, training stays at "how many digits" and never gets to "which".
EASY_POOLS = 150
MIXED_POOLS = 40
# Weight of the auxiliary CTC loss over whole words, which teaches the encoder where words are
# long before the transducer alone would learn it. Its head is dropped before export.
CTC_WEIGHT = 0.5
PEAK_RATE = 1e-3
WARM_UP_STEPS = 60
# The paper's logit under-normalisation, at Parakeet's value.
SIGMA = 0.02
LOG_EVERY = 50


@dataclass
class Batch:
    """Padded `audio` [batch, samples] and `targets` [batch, tokens] with their true sizes.

    `words` are all digits of the batch end to end, 0 to 9, `word_sizes` their counts [batch].
    """

    audio: torch.Tensor
    audio_sizes: torch.Tensor
    targets: torch.Tensor
    target_sizes: torch.Tensor
    words: torch.Tensor
    word_sizes: torch.Tensor


class BatchStream(IterableDataset):
    """An endless stream of batches of similar length, each worker with its own seed."""

    def __init__(
        self, bank: Path, noise: Path | None, tokenizer: Path, seed: int, *, eased: bool
    ) -> None:
        """Compose from a bank with training noises; `eased` begins with clean strings."""
        self.paths = (bank, noise, tokenizer)
        self.seed = seed
        self.eased = eased

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches for ever."""
        import sentencepiece

        bank, noise, tokenizer = self.paths
        info = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, info.id if info else 0])
        composer = Composer(Bank(bank), load_noise(noise, held_out=False))
        encoder = sentencepiece.SentencePieceProcessor(
            model_file=str(tokenizer / "tokenizer.model")
        )
        for pool_number in count():
            easy_share = easy_share_of_pool(pool_number) if self.eased else 0.0
            pool = [composer.draw(rng, easy_share) for _ in range(POOL_SIZE)]
            groups = group_by_length(pool)
            for index in rng.permutation(len(groups)):
                group = groups[index]
                yield collate(group, [encoder.encode(example.text) for example in group])


def easy_share_of_pool(pool_number: int) -> float:
    """Share of easy examples: 1 at first, then falling to 0."""
    return float(np.clip(1.0 - (pool_number - EASY_POOLS) / MIXED_POOLS, 0.0, 1.0))


def group_by_length(pool: list[Example]) -> list[list[Example]]:
    """Cut the examples, sorted by length, into batches of at most `BATCH_AUDIO_S` when padded."""
    groups: list[list[Example]] = [[]]
    for example in sorted(pool, key=lambda example: len(example.samples)):
        padded = (len(groups[-1]) + 1) * len(example.samples) / SAMPLE_RATE
        if groups[-1] and padded > BATCH_AUDIO_S:
            groups.append([])
        groups[-1].append(example)
    return groups


def collate(examples: list[Example], tokens: list[list[int]]) -> Batch:
    """Pad examples and their token ids with zeros."""
    longest = max(len(example.samples) for example in examples)
    # Few distinct shapes: the CPU kernels prepare themselves once for each.
    size = -(-longest // PADDING_STEP) * PADDING_STEP
    audio = torch.zeros(len(examples), size)
    for row, example in zip(audio, examples, strict=True):
        row[: len(example.samples)] = torch.from_numpy(example.samples)
    targets = [torch.tensor(ids, dtype=torch.long) for ids in tokens]
    words = [[DIGITS.index(word) for word in example.text.split()] for example in examples]
    return Batch(
        audio=audio,
        audio_sizes=torch.tensor([len(example.samples) for example in examples]),
        targets=torch.nn.utils.rnn.pad_sequence(targets, batch_first=True),
        target_sizes=torch.tensor([len(ids) for ids in targets]),
        words=torch.tensor([digit for digits in words for digit in digits], dtype=torch.long),
        word_sizes=torch.tensor([len(digits) for digits in words]),
    )


def mask_features(features: torch.Tensor) -> None:
    """Blank up to two bands of up to 14 of 128 mels per utterance, in place (SpecAugment)."""
    for row in features:
        for _ in range(int(torch.randint(0, 3, ()))):
            width = int(torch.randint(1, 15, ()))
            start = int(torch.randint(0, row.shape[0] - width + 1, ()))
            row[start : start + width] = 0.0


def word_ctc_loss(
    head: torch.nn.Module, encoded: torch.Tensor, frame_counts: torch.Tensor, batch: Batch
) -> torch.Tensor:
    """CTC loss over digits, mean per word and utterance; `encoded` is [batch, width, frames]."""
    scores = torch.log_softmax(head(encoded.transpose(1, 2)), -1).transpose(0, 1)
    total = torch.nn.functional.ctc_loss(
        scores,
        batch.words,
        frame_counts,
        batch.word_sizes,
        blank=len(DIGITS),
        reduction="sum",
        zero_infinity=True,
    )
    return total / (len(batch.words) + len(batch.word_sizes))


def batch_losses(
    model: torch.nn.Module, head: torch.nn.Module, batch: Batch
) -> tuple[torch.Tensor, torch.Tensor]:
    """TDT loss, mean per token and utterance (so empty targets count), and CTC loss, in nats."""
    with torch.no_grad():
        features, sizes = model.preprocessor(input_signal=batch.audio, length=batch.audio_sizes)
        mask_features(features)
    encoded, frame_counts = model.encoder(audio_signal=features, length=sizes)
    predicted, _, _ = model.decoder(
        targets=batch.targets.int(), target_length=batch.target_sizes.int()
    )
    joint = model.joint(encoder_outputs=encoded, decoder_outputs=predicted)
    losses = tdt_loss(
        joint,
        batch.targets,
        frame_counts.long(),
        batch.target_sizes,
        model.decoder.blank_idx,
        sigma=SIGMA,
    )
    transducer = losses.sum() / (batch.target_sizes.sum() + len(losses))
    return transducer, word_ctc_loss(head, encoded, frame_counts.long(), batch)


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to nearly zero at the last step."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    return PEAK_RATE * warm * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.005)


@dataclass
class Progress:
    """What the training loop reports."""

    steps: int = 0
    audio_hours: float = 0.0
    transducer: float = 0.0
    ctc: float = 0.0

    def add(self, transducer: float, ctc: float, batch: Batch) -> None:
        """Count one step."""
        self.steps += 1
        self.audio_hours += float(batch.audio_sizes.sum()) / SAMPLE_RATE / 3600
        kept = 0.0 if self.steps == 1 else 0.98
        self.transducer = kept * self.transducer + (1 - kept) * transducer
        self.ctc = kept * self.ctc + (1 - kept) * ctc

    def __str__(self) -> str:
        """Steps, hours of audio and smoothed losses."""
        return (
            f"{self.steps} steps, {self.audio_hours:.1f} h heard, "
            f"loss {self.transducer:.3f} (CTC {self.ctc:.3f})"
        )


def train(model: torch.nn.Module, batches: Iterator[Batch], steps: int, state_path: Path) -> None:
    """Train for a number of steps; report and save the weights now and then and at the end."""
    head = torch.nn.Linear(WIDTH, len(DIGITS) + 1)
    parameters = [*model.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=1e-3)
    progress = Progress()
    began = time.monotonic()
    model.train()
    for step in range(steps):
        batch = next(batches)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, steps)
        transducer, ctc = batch_losses(model, head, batch)
        optimiser.zero_grad()
        (transducer + CTC_WEIGHT * ctc).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        progress.add(transducer.item(), ctc.item(), batch)
        if progress.steps % LOG_EVERY == 0 or progress.steps == steps:
            print(f"{(time.monotonic() - began) / 60:.1f} min: {progress}", flush=True)
            torch.save(model.state_dict(), state_path)


def main() -> None:
    """Train and write `tokenizer/` and `state.pt`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bank", type=Path, required=True, help="train.npz of voices.py")
    parser.add_argument("--noise", type=Path, help="folder of noise recordings to mix in")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=TOKENIZER_SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--start", type=Path, help="state.pt to continue from")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer = arguments.out / "tokenizer"
    rng = np.random.default_rng(TOKENIZER_SEED)
    train_tokenizer(tokenizer, [random_digits(int(rng.integers(1, 9)), rng) for _ in range(5000)])
    model = build_model(tokenizer)
    if arguments.start:
        model.load_state_dict(torch.load(arguments.start, weights_only=True))
    stream = BatchStream(
        arguments.bank, arguments.noise, tokenizer, arguments.seed, eased=not arguments.start
    )
    batches = iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=8))
    train(model, batches, arguments.steps, arguments.out / "state.pt")


if __name__ == "__main__":
    main()
