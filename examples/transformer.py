"""A transformer over token ids that ends in MACH: a LightningModule like any other."""

import lightning as L
import torch
from torch import nn

from bench import MachHead

NUM_TOKENS, NUM_LABELS, WIDTH = 600, 300, 64


class Transformer(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(NUM_TOKENS, WIDTH)
        self.layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, batch_first=True)
        self.head = MachHead(WIDTH, NUM_LABELS, num_buckets=50, num_worlds=6)

    def forward(self, tokens):
        return self.layer(self.tokens(tokens)).mean(dim=1)  # hidden vectors (N, H)

    def training_step(self, batch, _):
        return self.head(self(batch[0]), batch[1])

    def validation_step(self, batch, _):
        _, best = self.head.top_k(self(batch[0]), 5)  # scores and labels, best first
        self.log("val_top_5", (best == batch[1][:, None]).any(1).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


if __name__ == "__main__":
    labels = torch.randint(NUM_LABELS, (6000,))  # each has words of its own: two of eight tokens
    words = 2 * labels[:, None] + torch.arange(2), torch.randint(NUM_TOKENS, (6000, 6))
    points = list(zip(torch.cat(words, dim=1), labels))
    train, val = (torch.utils.data.DataLoader(points, 100, shuffle=each) for each in (True, False))
    trainer = L.Trainer(max_epochs=3, logger=False, enable_checkpointing=False)
    trainer.fit(Transformer(), train, val)
    print(trainer.callback_metrics["val_top_5"])
