// SPDX-License-Identifier: Apache-2.0

// Non-recoverable faults: VT-d §7.2 (reporting), §11.4.7.1 (fault status register).

extension VTdUnit {
  /// Sets the handler of the fault event; replaces the previous one.
  package func setFaultSink(_ sink: FaultSink?) { faults.setSink(sink) }

  /// Reads and clears the fault recording registers.
  package func consumeFaultRecords() -> [VTdFaultRecordingRegister] { faults.consume() }

  /// Records a fault and raises the fault event.
  func report(_ record: FaultRecord) {
    faults.append(VTdFaultRecordingRegister(record), of: record)
  }
}
