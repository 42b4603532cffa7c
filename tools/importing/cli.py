"""The command line of import_gguf.py."""
import argparse
import sys

from .folder import SAFETENSORS_NAMES, NewFolder, write_json, write_safetensors
from .gguf_file import GgufFile, ImportFailure
from .model import Model
from .tokenizer import tokenizer, why_not


def generation_config(config):
    return {"_from_model_config": True, **{key: config[key] for key in ("bos_token_id", "eos_token_id") if key in config}}


def import_gguf(path, folder, dtype):
    file = GgufFile(path)
    model = Model(file)
    config = model.config(dtype)
    reason = why_not(file)
    texts = None if reason else tokenizer(file, model.vocabulary)
    old_names = {new: old for old, new in model.names.items()}
    with NewFolder(folder) as temporary:
        write_json(f"{temporary}/config.json", config)
        write_json(f"{temporary}/generation_config.json", generation_config(config))
        if texts:
            write_json(f"{temporary}/tokenizer.json", texts[0])
            write_json(f"{temporary}/tokenizer_config.json", texts[1])
        write_safetensors(f"{temporary}/model.safetensors", {new: file.shape(old) for new, old in old_names.items()},
                          lambda new: model.values(old_names[new]), dtype)
    if reason:
        print(f"warning: {path}: no tokenizer.json, because {reason}: take the model's own", file=sys.stderr)
    kinds = sorted({file.tensors[old].tensor_type.name for old in model.names})
    print(f"{folder}: {config['architectures'][0]}, {model.layers} layers of width {model.hidden}, vocabulary "
          f"{model.vocabulary}, {dtype} from {', '.join(kinds)}")


def main(arguments, description):
    parser = argparse.ArgumentParser(prog="import_gguf.py", description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", help="the GGUF file")
    parser.add_argument("folder", help="the model folder to make; must not exist")
    parser.add_argument("--dtype", choices=list(SAFETENSORS_NAMES), default="float32", help="of the tensors (default: float32)")
    options = parser.parse_args(arguments)
    try:
        import_gguf(options.gguf, options.folder, options.dtype)
    except ImportFailure as error:
        print(f"import_gguf.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"import_gguf.py: {error}", file=sys.stderr)
        return 1
    return 0
