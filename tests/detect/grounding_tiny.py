"""Tiny random models of the grounding family as folders, as transformers saves them."""

import string

import torch
import transformers

SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
LETTERS = string.ascii_lowercase + string.digits + "-"


def bert_tokenizer():
    """Every letter is a token; the special ones have BERT's own numbers, which Grounding DINO relies on."""
    vocabulary = {token: number for number, token in SPECIAL.items()}
    free = (n for n in range(1, 1030) if n not in SPECIAL)
    for letter in LETTERS:
        vocabulary[letter] = next(free)
        vocabulary[f"##{letter}"] = next(free)
    for number in free:
        vocabulary[f"[unused{number}]"] = number
    return transformers.BertTokenizer(vocab=dict(sorted(vocabulary.items(), key=lambda item: item[1])))


def clip_tokenizer(*, end_last=False):
    """Every letter is a token, with and without the end of its word; CLIP's own end has the highest number."""
    letters = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS)]
    tokens = ["!", "<|startoftext|>", "<|endoftext|>", *letters]
    if end_last:
        tokens = ["!", "<|startoftext|>", *letters, ".", ",", ".</w>", ",</w>", "D", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={token: n for n, token in enumerate(tokens)}, merges=[])


def make_grounding(folder, kind="GroundingDino", text_len=64):
    """Grounding DINO or MM-Grounding-DINO, 20 queries, with a Swin of 8 channels."""
    swin = transformers.SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4], image_size=64
    )
    bert = transformers.BertConfig(
        vocab_size=1030, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    config = getattr(transformers, f"{kind}Config")(
        backbone_config=swin, text_config=bert, num_queries=20, encoder_layers=1, decoder_layers=2, d_model=32,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2,
        max_text_len=text_len, num_feature_levels=4,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}ForObjectDetection")(config)
    model.save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    transformers.GroundingDinoImageProcessor(size={"shortest_edge": 96, "longest_edge": 160}).save_pretrained(folder)
    return folder


def make_owlv2(folder):
    """OWLv2 over 6 x 6 patches."""
    clip = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Owlv2Config(
        text_config={**clip, "vocab_size": 80, "max_position_embeddings": 16, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        vision_config={**clip, "image_size": 96, "patch_size": 16},
        projection_dim=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.Owlv2ForObjectDetection(config)
    model.save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    transformers.Owlv2ImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder


def make_omdet(folder, *, timm=False, text_len=24, config=None):
    """OmDet-Turbo with 20 queries over transformers' Swin of 8 channels, or over timm's smallest ResNet."""
    swin = {
        "model_type": "swin", "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4,
        "out_indices": [2, 3, 4], "image_size": 64,
    }  # fmt: skip
    resnet = {"model_type": "timm_backbone", "backbone": "test_resnet", "out_indices": [2, 3, 4]}
    tokenizer = clip_tokenizer(end_last=True)
    text = transformers.CLIPTextConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=len(tokenizer),
        max_position_embeddings=text_len, projection_dim=16, bos_token_id=1, eos_token_id=len(tokenizer) - 1,
    )  # fmt: skip
    config = config or transformers.OmDetTurboConfig(
        text_config=text, backbone_config=resnet if timm else swin, apply_layernorm_after_vision_backbone=False,
        image_size=96, num_queries=20, text_projection_in_dim=16, text_projection_out_dim=16, class_embed_dim=16,
        task_encoder_hidden_dim=32, vision_features_channels=[32] * 3, encoder_in_channels=[48, 192, 96] if timm else [16, 32, 64],
        encoder_hidden_dim=32, encoder_attention_heads=2, encoder_dim_feedforward=16, decoder_hidden_dim=32,
        decoder_num_heads=2, decoder_num_layers=2, decoder_dim_feedforward=16,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.OmDetTurboForObjectDetection(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.DetrImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder
