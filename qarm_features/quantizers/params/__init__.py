"""The pyspark.ml Params of each quantizer, with their checks."""
