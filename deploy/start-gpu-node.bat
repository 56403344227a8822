@echo off
rem Starts this Windows machine as a GPU node of Spillway, in WSL2: see start-gpu-node.ps1.
powershell.exe -NoProfile -ExecutionPolicy Bypass -File "%~dp0start-gpu-node.ps1" %*
if errorlevel 1 pause
