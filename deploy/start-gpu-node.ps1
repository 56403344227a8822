<#
.SYNOPSIS
Starts this Windows machine as a GPU node of Spillway, in WSL2.

.DESCRIPTION
Checks that Windows has NVIDIA's driver and that WSL2 has the GPU, and runs
start-gpu-node.sh in the distribution, which checks the rest and runs "spillway node".
Settings come from the arguments, from this process's environment (the SPILLWAY_
variables below), and from /etc/spillway/node.env in the distribution.

The arguments -Distribution NAME (of WSL; the default one when left out) and -Anyway
(start although a check fails; what only prefers a GPU then runs on the CPU) come
first. Everything after them goes to "spillway node".

.EXAMPLE
.\start-gpu-node.ps1 -Distribution Ubuntu-24.04 --engine-url nats://10.0.0.1:4222 --store-endpoint http://10.0.0.1:9000
#>
# No param block: it would take arguments of "spillway node" for its own.
$distribution, $anyway, $rest = '', $false, @($args)
while ($rest.Count -gt 0) {
    if ($rest[0] -eq '-Anyway') {
        $anyway = $true
        $rest = @($rest | Select-Object -Skip 1)
    } elseif ($rest[0] -eq '-Distribution' -and $rest.Count -gt 1) {
        $distribution = $rest[1]
        $rest = @($rest | Select-Object -Skip 2)
    } else {
        break
    }
}
$ErrorActionPreference = 'Stop'

function Stop-With([string] $What, [string] $Fix) {
    [Console]::Error.WriteLine("start-gpu-node: $What")
    [Console]::Error.WriteLine("start-gpu-node: $Fix")
    exit 1
}

if (-not (Get-Command wsl.exe -ErrorAction SilentlyContinue)) {
    Stop-With 'WSL is not installed' 'run: wsl --install -d Ubuntu-24.04'
}
$wsl = @()
if ($distribution -ne '') { $wsl += @('-d', $distribution) }
$wsl += @('-u', 'root', '--')

& wsl.exe @wsl true
if ($LASTEXITCODE -ne 0) {
    Stop-With 'the distribution does not start' 'list the distributions with wsl -l -v, and install one with: wsl --install -d Ubuntu-24.04'
}
if (-not $anyway) {
    if (-not (Get-Command nvidia-smi.exe -ErrorAction SilentlyContinue)) {
        Stop-With 'Windows has no NVIDIA driver' 'install the driver for this card from nvidia.com, in Windows and not in WSL'
    }
    & nvidia-smi.exe -L
    if ($LASTEXITCODE -ne 0) {
        Stop-With 'the NVIDIA driver of Windows does not work' 'install it again, and restart Windows'
    }
    & wsl.exe @wsl test -e /dev/dxg
    if ($LASTEXITCODE -ne 0) {
        Stop-With 'WSL has no GPU' 'run wsl --update and wsl --shutdown; the distribution must be of version 2: wsl --set-version NAME 2'
    }
}

# Only variables that WSLENV names reach Linux.
$settings = 'SPILLWAY_ENGINE_URL', 'SPILLWAY_ENGINE_TOKEN', 'SPILLWAY_STORE_ENDPOINT', 'SPILLWAY_STORE_ACCESS_KEY', 'SPILLWAY_STORE_SECRET_KEY', 'SPILLWAY_NODE_ID'
$known = @($settings | Where-Object { Test-Path "env:$_" })
$env:WSLENV = (@($env:WSLENV) + $known | Where-Object { $_ }) -join ':'

$path = (& wsl.exe @wsl wslpath -a (Join-Path $PSScriptRoot 'start-gpu-node.sh').Replace('\', '/')).Trim()
$start = @('sh', $path)
if ($anyway) { $start += '--anyway' }
& wsl.exe @wsl @start @rest
exit $LASTEXITCODE
