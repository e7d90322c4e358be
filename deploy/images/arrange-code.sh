#!/bin/sh
# arrange-code.sh SOURCE: put into /code/NAME what the image NAME holds of the mesh's own code: the package
# voicemesh as its wheel has it, and of the services that one alone.
set -eu

here=$(dirname "$0")
cd "$1"
PYTHONPATH=/opt/build python3.11 -m hatchling build --target wheel --directory /tmp/wheel
python3.11 -m pip --quiet install --no-deps --no-index --no-compile --target /code/cli /tmp/wheel/voicemesh-*.whl
# It names the folder that the wheel was built in.
rm /code/cli/voicemesh-*.dist-info/direct_url.json
sed -i '1s|.*|#!/opt/voicemesh/bin/python|' /code/cli/bin/voicemesh
"$here/compile.sh" /code/cli

for name in gateway llm chunker tts cache; do
    mkdir "/code/$name"
    cp -R /code/cli/voicemesh /code/cli/voicemesh-*.dist-info "/code/$name/"
    if [ "$name" = gateway ]; then
        cp -R gateway /code/gateway/
    else
        mkdir "/code/$name/services"
        cp -R services/__init__.py "services/$name" "/code/$name/services/"
    fi
    "$here/compile.sh" "/code/$name"
done
