// Non-recoverable faults: VT-d §7.2 (reporting), §11.4.7.1 (fault status register).

extension VTdUnit {
  /// Sets who is told of faults; replaces the one before.
  package func setFaultSink(_ sink: FaultSink?) { faults.setSink(sink) }

  /// Reads and clears the fault recording registers.
  package func takeFaultRecords() -> [VTdFaultRecordingRegister] { faults.take() }

  /// Records a fault and raises the fault event.
  func report(_ record: FaultRecord) {
    faults.append(VTdFaultRecordingRegister(record), of: record)
  }
}
