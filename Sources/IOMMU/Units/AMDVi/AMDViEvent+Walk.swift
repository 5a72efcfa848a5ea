extension AMDViEvent {
  /// - Parameter place: of the entry that the walk ended with.
  static func walk(
    _ fault: WalkFault, _ subject: Subject, at address: UInt64, _ place: PhysicalAddress
  ) -> AMDViEvent {
    switch fault {
    case .inaccessible, .unwritable: .pageTableError(subject, at: place)
    case .absent, .inputTooWide, .accessFlagClear: .absent(subject, at: address)
    case .denied: .denied(subject, at: address)
    case .reserved, .outputTooWide: .reserved(subject, at: address)
    }
  }
}
